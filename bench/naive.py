"""A service as tutorials write it: FastAPI, OpenCV and `torch.jit.load`, all with default settings.

uvicorn bench.naive:app, with MODEL_FOLDER in the environment.
"""

import json
import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from fastapi import FastAPI, UploadFile

FOLDER = Path(os.environ["MODEL_FOLDER"])
WANTED = json.loads((FOLDER / "manifest.json").read_text())["input"]
MODEL = torch.jit.load(str(FOLDER / "model.pt")).eval()  # noqa: TID251 - what is measured is how others do it

app = FastAPI()


@app.post("/classify")
def classify(file: UploadFile) -> list[float]:
    """Scores by label."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as copy:
        copy.write(file.file.read())
        copy.flush()
        video = cv2.VideoCapture(copy.name)
        frames = []
        while True:
            is_read, frame = video.read()
            if not is_read:
                break
            frames.append(cv2.cvtColor(cv2.resize(frame, (WANTED["width"], WANTED["height"])), cv2.COLOR_BGR2RGB))
        video.release()
    picked = np.linspace(0, len(frames) - 1, WANTED["clip_length"]).astype(int)
    clip = torch.from_numpy(np.stack([frames[index] for index in picked]))
    with torch.no_grad():
        logits = MODEL(clip.unsqueeze(0), torch.tensor([len(clip)]))
    scores: list[float] = logits.softmax(1)[0].tolist()
    return scores
