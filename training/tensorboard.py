"""A fit's course as TensorBoard reads it: `tensorboard --logdir DIR`. Writing needs no package beside TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def logs(folder: Path, *, before: int = 0) -> keras.callbacks.Callback:
    """A callback that writes each epoch's losses and metrics, and the learning rate that it ended with.

    Names and folders are those of Keras's own callback (which would need the tensorboard package): `epoch_loss` and so
    on, the training rows' in `train/`, the held-out rows' in `validation/`.

    Args:
        folder: Gets an events file in each of them; what is there already stays, so that a fit that goes on after an
            interruption adds the rest of its curve.
        before: Epochs of an earlier part of the same training, which count first.
    """
    import keras
    import tensorflow as tf
    from tensorflow.core.framework.summary_pb2 import SummaryMetadata

    scalars = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))

    class Logs(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no type hints
        def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
            self.writers: dict[str, tf.summary.SummaryWriter] = {}

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            found = {**(logs or {}), "learning_rate": float(self.model.optimizer.learning_rate)}
            for name, value in found.items():
                part = "validation" if name.startswith("val_") else "train"
                if part not in self.writers:
                    self.writers[part] = tf.summary.create_file_writer(str(folder / part))
                with self.writers[part].as_default():
                    tag = f"epoch_{name.removeprefix('val_')}"
                    tf.summary.write(tag, tf.constant(value, tf.float32), step=before + epoch, metadata=scalars)
                # An interruption loses no whole epoch.
                self.writers[part].flush()

        def on_train_end(self, logs: dict[str, float] | None = None) -> None:
            for writer in self.writers.values():
                writer.close()

    return Logs()
