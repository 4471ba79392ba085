"""Epochs of the two-stage recipe in Keras 3, as its guides write it; benchmarks/two_stage.py runs this elsewhere.

Run: VENV/bin/python benchmarks/two_stage_keras.py FILMS.npz --backbone densenet121 --warm 1 --timed 1

A base of keras.applications with random weights, frozen and in inference mode; augmentation layers in the model;
average pooling, 256 units, dropout, softmax; Adam 1e-4, then 1e-5 with the last block trained; model.fit with the
watched films as validation. Films are grey tiles in memory, repeated to three channels. Prints one line of JSON.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

BASES = {
    # The layer that the last block begins with: the same places as features.denseblock4 and features.17 in torchvision.
    "densenet121": ("DenseNet121", "conv5_block1_0_bn"),
    "mobilenet_v2": ("MobileNetV2", "block_16_expand"),
}


class Clock(keras.callbacks.Callback):
    """Wall seconds of each epoch, its validation included."""

    def on_train_begin(self, logs=None):
        self.seconds, self.marked = [], time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        self.seconds.append(now - self.marked)
        self.marked = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films")
    parser.add_argument("--backbone", choices=sorted(BASES), default="densenet121")
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--timed", type=int, default=1)
    options = parser.parse_args()
    films = np.load(options.films)
    tiles, targets = films["tiles"][..., None], films["targets"].astype("float32")
    fit, watch = films["fit"], films["watch"]
    name, first_trained = BASES[options.backbone]
    base = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(*tiles.shape[1:3], 3))
    base.trainable = False
    inputs = keras.Input(tiles.shape[1:])
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.RandomRotation(10 / 360)(x)
    x = keras.layers.RandomTranslation(0.05, 0.05)(x)
    x = keras.layers.RandomZoom(0.1)(x)
    x = keras.layers.RandomContrast(0.2, value_range=(0, 1))(x)
    x = keras.layers.RandomBrightness(0.1, value_range=(0, 1))(x)
    x = keras.layers.Concatenate()([x, x, x])
    x = keras.layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.229**2, 0.224**2, 0.225**2])(x)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(256, activation="relu")(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(inputs, keras.layers.Dense(targets.shape[1], activation="softmax")(x))
    found = []
    for rate in (1e-4, 1e-5):
        if rate == 1e-5:
            base.trainable = True
            at = [layer.name for layer in base.layers].index(first_trained)
            for layer in base.layers[:at]:
                layer.trainable = False
        model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy", metrics=["accuracy"])
        clock = Clock()
        model.fit(
            tiles[fit],
            targets[fit],
            batch_size=32,
            epochs=options.warm + options.timed,
            validation_data=(tiles[watch], targets[watch]),
            callbacks=[clock],
            verbose=0,
        )
        found.append(clock.seconds[options.warm :])
    backend = keras.backend.backend()
    print(json.dumps({"what": f"Keras {keras.__version__} ({backend}, fp32)", "epochs": found}))


if __name__ == "__main__":
    main()
