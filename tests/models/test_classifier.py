"""The classifier interface: normalisation, head, cuts, and what a config refuses."""

from collections.abc import Callable

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from hilum.config import from_mapping, to_mapping
from hilum.errors import ConfigError
from hilum.models.classifier import Classifier, ClassifierConfig, Normalise, build_classifier
from hilum.models.encoders import build_encoder
from hilum.models.heads import Head, build_head


def test_normalisation_by_hand_for_a_grey_film() -> None:
    films = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    out = Normalise((0.2, 0.5, 0.0), (0.1, 0.5, 1.0), 3)(films)
    expected = torch.tensor([[-2.0, 0.0, 8.0], [-1.0, -0.6, 1.0], [0.0, 0.2, 1.0]])
    torch.testing.assert_close(out[0, :, 0], expected)


def test_bytes_and_intensities_are_normalised_alike(make_classifier: Callable[..., Classifier]) -> None:
    classifier = make_classifier()
    films = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    assert torch.equal(classifier(films), classifier(films.float() / 255))


def test_a_grey_film_answers_as_its_three_equal_channels_do(make_classifier: Callable[..., Classifier]) -> None:
    classifier = make_classifier()
    films = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(classifier(films), classifier(films.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("cut", ["block5", "stem", 6])
def test_prefix_and_suffix_are_the_whole(
    make_classifier: Callable[..., Classifier], films: torch.Tensor, cut: str | int
) -> None:
    classifier = make_classifier()
    with torch.inference_mode():
        assert torch.equal(classifier.suffix(classifier.prefix(films, cut), cut), classifier(films))


def test_logits_from_pooled_features_are_the_logits(
    make_classifier: Callable[..., Classifier], films: torch.Tensor
) -> None:
    classifier = make_classifier()
    with torch.inference_mode():
        pooled = classifier.head.pool(classifier.features(films))
        assert torch.equal(classifier.head.from_pooled(pooled), classifier(films))


def test_head_by_hand() -> None:
    """Mean 2.5 → hidden (2.5, −2.5) → ReLU (2.5, 0) → logits (5, −2.5)."""
    head = Head(1, 2, 2, 0.5).eval()
    head.load_state_dict(
        {
            "fc1.weight": torch.tensor([[1.0], [-1.0]]),
            "fc1.bias": torch.zeros(2),
            "fc2.weight": torch.tensor([[2.0, 5.0], [-1.0, 7.0]]),
            "fc2.bias": torch.zeros(2),
            "shift": torch.zeros(1),
            "scale": torch.ones(1),
        }
    )
    assert head(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).tolist() == [[5.0, -2.5]]


def test_head_dropout_acts_in_training_only() -> None:
    head = build_head(4, 64, 2, 0.5, seed=0)
    maps = torch.ones((1, 4, 2, 2))
    assert torch.equal(head.eval()(maps), head.eval()(maps))
    assert not torch.equal(head.train()(maps), head.train()(maps))


def test_shapes_in_annotations_are_the_shapes_in_use() -> None:
    checked = jaxtyped(typechecker=beartype)(Head.forward)
    head = Head(4, 8, 3, 0.5)
    assert checked(head, torch.zeros((2, 4, 5, 5))).shape == (2, 3)
    with pytest.raises(TypeCheckError):
        checked(head, torch.zeros((2, 4)))


def test_normalisation_is_no_part_of_the_state_dict(make_classifier: Callable[..., Classifier]) -> None:
    """It belongs to the config: a checkpoint of one mean must not slip it into a classifier of another."""
    assert {key.split(".")[0] for key in make_classifier().state_dict()} == {"encoder", "head"}


def test_without_knowledge_of_the_weights_normalisation_is_neutral_and_recorded() -> None:
    classifier, info = build_classifier(ClassifierConfig(backbone="hilum_small", findings=("a", "b")), "none", 0)
    assert (classifier.config.mean, classifier.config.std) == ((0.5,), (0.25,))
    assert (info.name, info.sha256, info.pretrained_on) == ("none", "", ())


def test_given_mean_and_std_are_kept() -> None:
    config = ClassifierConfig(backbone="hilum_small", findings=("a", "b"), mean=(0.1,), std=(0.2,))
    assert build_classifier(config, "none", 0)[0].config == config


def test_config_survives_json() -> None:
    config = ClassifierConfig(backbone="lenet5", findings=("a", "b"), size=32, mean=(0.1,), std=(0.2,))
    assert from_mapping(ClassifierConfig, to_mapping(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"findings": ("one",)}, r"findings are \['one'\], but a classifier tells at least two apart"),
        ({"image_channels": 2}, "image_channels is 2, but hilum_small takes 1 or 3"),
        ({"backbone": "lenet5", "image_channels": 3}, "image_channels is 3, but lenet5 takes 1"),
        ({"backbone": "mlp"}, "size is 224, but mlp takes 28"),
        ({"size": 0}, "size is 0, but hilum_small takes ≥ 1"),
        ({"hidden": 0}, "hidden is 0, but the head needs at least one hidden unit"),
        ({"dropout": 1.0}, "dropout is 1.0, but must be at least 0 and below 1"),
        ({"mean": (0.1, 0.2)}, "mean has 2 values, but hilum_small takes 1 or 3"),
        ({"std": (0.0,)}, r"std is \[0.0\], but must be above 0"),
    ],
)
def test_config_refuses(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClassifierConfig(**{"backbone": "hilum_small", "findings": ("a", "b"), **fields})


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ClassifierConfig(backbone="hilum_small", findings=("a", "b"), hidden=0, dropout=2.0)
    assert len(caught.value.problems) == 2


def test_a_classifier_needs_its_normalisation() -> None:
    config = ClassifierConfig(backbone="hilum_small", findings=("a", "b"))
    with pytest.raises(ConfigError, match="mean and std of a classifier are None"):
        Classifier(config, build_encoder("hilum_small", 0), Head(176, 8, 2, 0.5))
