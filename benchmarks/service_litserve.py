"""The same film service on LitServe, with its batching; for an interpreter that has litserve, onnxruntime, pydicom and
Pillow. For comparison: ``python service_litserve.py MODEL.onnx SIZE THREADS`` prints its port.
"""

import io
import socket
import sys

import litserve
import numpy as np
import onnxruntime
import pydicom
from fastapi import Request
from PIL import Image


class Films(litserve.LitAPI):
    def __init__(self, model: str, size: int, threads: int) -> None:
        super().__init__(max_batch_size=8, batch_timeout=0.005)
        self.model, self.size, self.threads = model, size, threads

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        self.entry = self.session.get_inputs()[0].name

    def decode_request(self, request: Request) -> np.ndarray:
        content = request["film"].file.read()  # a form's file: LitServe takes JSON or forms, no bare bytes
        pixels = pydicom.dcmread(io.BytesIO(content)).pixel_array.astype(np.float32)
        low, high = float(pixels.min()), float(pixels.max())
        grey = ((pixels - low) / max(high - low, 1.0) * 255).astype(np.uint8)
        return np.asarray(Image.fromarray(grey).resize((self.size, self.size), Image.Resampling.BILINEAR))[None]

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, tiles: np.ndarray) -> list[tuple[list[float], list[object]]]:
        probabilities, maps = self.session.run(["probabilities", "cam"], {self.entry: tiles})
        return [(one.tolist(), heat.tolist()) for one, heat in zip(probabilities, maps, strict=True)]

    def unbatch(self, output: list[object]) -> list[object]:
        return output

    def encode_response(self, output: tuple[list[float], list[object]]) -> dict[str, object]:
        return {"probabilities": output[0], "maps": output[1]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    port = free_port()
    print(port, flush=True)
    api = Films(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="warning")
