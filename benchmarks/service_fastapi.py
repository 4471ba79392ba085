"""A film service as people usually write one: FastAPI, pydicom, Pillow and ONNX Runtime in one process; no queue, no
records, nothing durable. For comparison: ``python service_fastapi.py MODEL.onnx SIZE THREADS`` prints its port.
"""

import io
import socket
import sys

import numpy as np
import onnxruntime
import pydicom
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image


def session_of(path: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def tile_of(content: bytes, size: int) -> np.ndarray:
    """DICOM bytes to uint8 [1, 1, size, size], the usual way."""
    pixels = pydicom.dcmread(io.BytesIO(content)).pixel_array.astype(np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    grey = ((pixels - low) / max(high - low, 1.0) * 255).astype(np.uint8)
    small = Image.fromarray(grey).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small)[None, None]


def main(model: str, size: int, threads: int) -> None:
    session = session_of(model, threads)
    entry = session.get_inputs()[0].name
    app = FastAPI()

    def answer(content: bytes) -> dict[str, object]:
        probabilities, maps = session.run(["probabilities", "cam"], {entry: tile_of(content, size)})
        return {"probabilities": probabilities[0].tolist(), "maps": maps[0].tolist()}

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, object]:
        return await run_in_threadpool(answer, await request.body())

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    server.run(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
