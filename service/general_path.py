"""uvicorn's way of a request, for all that does not take the fast path and where there is none."""

from service.bounded import BoundedProtocol


class GeneralPath(BoundedProtocol):
    """uvicorn's way of a request from its first byte to its last, within the limits."""

    def on_message_begin(self) -> None:
        """A request begins."""
        self.begun()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self.head_completed()
        super().on_headers_complete()
        self.cycle.keep_alive &= not self.leaves

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self.body_came(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is complete."""
        self.completed()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is written."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reading()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for as long as it may."""
        self._close()
