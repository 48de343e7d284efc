"""``POST /models/{model}/prepared``: a picture as the model sees it, by the code that prepares it for predictions."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.errors import InputError
from models.pictures import png
from models.task import ImageClassification
from service.access import api_keys
from service.bodies import read_small
from service.errors import ClientDisconnectError
from service.protocols import native
from service.protocols.base import Question
from service.runtime import Runtime

PREPARED_ROUTE = "/models/{model}/prepared"

# Nobody reads it; the metrics are to show no failure of ours.
_LEFT = 499


def prepared_route(runtime: Runtime) -> Route:
    """The route; it asks for an API key where predictions do."""
    keys = api_keys(runtime.settings)
    # The answer is one picture.
    settings = runtime.settings.model_copy(update={"max_request_rows": 1})

    async def prepared(request: Request) -> Response:
        if keys is not None:
            keys.check(request.scope["headers"])
        pin, _ = native.split_query(request.scope["query_string"])
        manifest = runtime.loader.find(request.path_params["model"], pin).manifest
        task = manifest.task
        if not isinstance(task, ImageClassification):
            kind = task.kind.replace("_", " ")
            raise InputError("model", "must take pictures", kind, "GET /models says what each model takes.")
        content_type = request.headers.get("content-type", "").encode("latin-1")
        try:
            body = await read_small(request, settings.max_body_bytes)
            question = Question(native, "-", content_type, body, receive=request.receive)
            question.picture_decoder, question.one_thread = runtime.picture_decoder, runtime.one_thread
            decoded = await native.decode(manifest, question, settings)
        except ClientDisconnectError:
            runtime.metrics.disconnects.inc()
            return Response(status_code=_LEFT)
        return Response(png(decoded.rows[0]), media_type="image/png", headers={"x-content-type-options": "nosniff"})

    return Route(PREPARED_ROUTE, prepared, methods=["POST"])
