"""Draw the figure of ``docs/explanation.md``: closed form and autograd on one film, and the film's logit taken apart.

Run: python docs/make_explanation_figure.py

The film is a synthetic phantom; the network is the shipped encoder with a random head, so what the map shows means
nothing: that both ways give the same map, and that its parts add up to the logit, is the point.
"""

from pathlib import Path

import numpy as np
import torch

from hilum.datasets.phantom.cohort import plan_cohort
from hilum.datasets.phantom.config import PhantomConfig
from hilum.datasets.phantom.rendering import render
from hilum.explanation.gradcam import classifier_grad_cam
from hilum.imaging.preprocessing import Preprocessing, preprocess
from hilum.models.classifier import ClassifierConfig, build_classifier
from hilum.models.explained import Explained, Member
from hilum.reports.pictures import Tile, pictures_figure

OUT = Path(__file__).parent / "img"
SIZE, FINDING = 224, 1


def signed(value: float | torch.Tensor) -> str:
    """Three decimals, with a minus sign that is one."""
    return f"{float(value):.3f}".replace("-", "−")


def main() -> None:
    """Draw it."""
    torch.set_num_threads(1)
    config = ClassifierConfig(backbone="hilum_small", findings=("normal", "pneumonia", "covid-19"), size=SIZE)
    classifier = build_classifier(config, "hilum", 3)[0].eval()
    plan = plan_cohort(PhantomConfig(patients=1, size=512, second_film_share=0))[0]
    pixels = (np.clip(render(plan).pixels, 0, 1) * 65535).astype(np.uint16)
    tile = preprocess(pixels, Preprocessing(size=SIZE))
    film = torch.from_numpy(tile)[None, None]
    head = classifier.head
    with torch.inference_mode():
        maps = classifier.features(film)
        head.standardise(maps.mean((0, 2, 3)), maps.flatten(2).std(2)[0])
        closed = Explained([classifier])(film).cam[0, FINDING]
        masks = torch.ones((1, config.hidden))
        answer = Member(classifier, len(classifier.encoder.layers), masks)(classifier.features(film))
        active = (head.first_layer()(maps.mean((2, 3))) > 0).float()
        biases = (active * head.first_layer().bias) @ head.fc2.weight.T + head.fc2.bias
    traced = classifier_grad_cam(classifier, film)[0, FINDING].detach()
    parts, bias, logit = answer.evidence[0, FINDING], float(biases[0, FINDING]), float(answer.logits[0, FINDING])
    left_over = logit - float(parts.sum()) - bias
    figure = pictures_figure(
        [
            [
                Tile(pixels=tile, caption="film (synthetic)"),
                Tile(pixels=closed.numpy(), caption="relu(α·A), closed form"),
                Tile(pixels=traced.numpy(), caption="Grad-CAM by autograd"),
                Tile(
                    pixels=(closed - traced).abs().numpy(),
                    caption=f"difference\nat most {(closed - traced).abs().max():.0e}",
                ),
                Tile(
                    pixels=parts.numpy(),
                    caption=f"α·A: adds up to {signed(parts.sum())}\nbiases {signed(bias)}\nlogit {signed(logit)}"
                    f"\nleft over {abs(left_over):.0e}",
                ),
            ]
        ],
        name="closed-form",
        title="One pass gives what autograd gives, and the logit without remainder",
        value_label="evidence, logit a cell",
        signed=True,
        tile_inches=1.7,
        what="maps",
    )
    OUT.mkdir(exist_ok=True)
    (OUT / "closed-form.png").write_bytes(figure.png)
    print(figure.alt)


if __name__ == "__main__":
    main()
