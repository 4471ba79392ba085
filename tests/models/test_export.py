"""Export: one ONNX file that answers as torch does, whatever the batch, with nothing of this machine inside."""

import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hilum.bundle.reading import OPSETS
from hilum.errors import MissingExtra, UsageError
from hilum.models.classifier import Classifier, ClassifierConfig, build_classifier
from hilum.models.explained import OUTPUTS, Explained
from hilum.models.export import INPUT, OPSET, export_onnx


def classifier_of(backbone: str, seed: int = 0, size: int = 64) -> Classifier:
    config = ClassifierConfig(backbone=backbone, findings=("normal", "pneumonia", "covid-19"), size=size, hidden=32)
    return build_classifier(config, "none", seed)[0].eval()


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def answers_of(content: bytes, films: torch.Tensor) -> dict[str, np.ndarray]:
    return dict(zip(OUTPUTS, session_of(content).run(None, {INPUT: films.numpy()}), strict=True))


def assert_parity(explained: Explained, content: bytes, films: torch.Tensor) -> None:
    """Probabilities within 1e-4, heat maps within 1e-3 of their largest value."""
    with torch.inference_mode():
        ours = {name: value.numpy() for name, value in explained(films)._asdict().items()}
    theirs = answers_of(content, films)
    for name in OUTPUTS:
        relative = name in ("cam", "cam_std", "features", "logits")
        bound = 1e-3 * np.abs(ours[name]).max() if relative else 1e-4
        assert np.abs(theirs[name] - ours[name]).max() <= bound, name


@pytest.fixture(scope="module")
def small(shipped: tuple[Explained, bytes]) -> tuple[Explained, bytes]:
    return shipped


@pytest.fixture(scope="module")
def ensemble() -> tuple[Explained, bytes]:
    """Two folds that share the frozen first layers of a LeNet-5."""
    first, fresh = classifier_of("lenet5", size=32), classifier_of("lenet5", seed=1, size=32)
    other = deepcopy(first)
    other.encoder.c3.load_state_dict(fresh.encoder.c3.state_dict())
    other.head.load_state_dict(fresh.head.state_dict())
    explained = Explained([first, other], temperature=0.7, cut="c3")
    return explained, export_onnx(explained)


def test_onnx_runtime_answers_as_torch_does(small: tuple[Explained, bytes], films: torch.Tensor) -> None:
    assert_parity(*small, films)


def test_an_ensemble_on_one_prefix_is_one_file(ensemble: tuple[Explained, bytes], films: torch.Tensor) -> None:
    assert_parity(*ensemble, films[:, :, :32, :32].contiguous())
    graph = onnx.load_from_string(ensemble[1]).graph
    # The shared convolution, and the second one of both members side by side.
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert [one.i for node in convolutions for one in node.attribute if one.name == "group"] == [1, 2]


def test_an_answer_does_not_depend_on_its_batch(small: tuple[Explained, bytes], films: torch.Tensor) -> None:
    together = answers_of(small[1], films)
    for row in range(len(films)):
        alone = answers_of(small[1], films[row : row + 1])
        for name in OUTPUTS:
            np.testing.assert_allclose(alone[name][0], together[name][row], rtol=0, atol=1e-5)


def test_graph_is_described_as_promised(small: tuple[Explained, bytes]) -> None:
    session = session_of(small[1])
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("films", "tensor(uint8)", ["n", 1, 64, 64])
    assert tuple(output.name for output in session.get_outputs()) == OUTPUTS
    assert [output.shape[0] for output in session.get_outputs()] == ["n"] * len(OUTPUTS)


def test_graph_has_the_pinned_opset_all_weights_and_no_dropout(small: tuple[Explained, bytes]) -> None:
    model = onnx.load_from_string(small[1])
    assert {item.domain: item.version for item in model.opset_import} == {"": OPSET}
    assert OPSET in OPSETS, "a bundle of what is exported must be read"
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert not {node.op_type for node in model.graph.node} & {"Dropout", "RandomUniform", "Bernoulli"}


def test_nothing_of_this_machine_is_in_the_file(small: tuple[Explained, bytes]) -> None:
    for trace in (b"site-packages", b".py", str(Path.home()).encode() + b"/", b"stack_trace"):
        assert trace not in small[1]


def test_the_same_network_gives_the_same_bytes(ensemble: tuple[Explained, bytes]) -> None:
    assert export_onnx(ensemble[0]) == ensemble[1]


def test_a_weight_that_is_not_a_number_is_refused() -> None:
    classifier = classifier_of("lenet5", size=32)
    with torch.no_grad():
        classifier.head.fc1.bias[0] = float("nan")
    with pytest.raises(UsageError, match=r"Weight members.0.fc1.bias is not finite, so the network can't be exported"):
        export_onnx(Explained([classifier]))


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match="Export to ONNX needs the 'train' extra"):
        export_onnx(Explained([classifier_of("lenet5", size=32)]))


@pytest.mark.long
@pytest.mark.parametrize("backbone", ["densenet121", "efficientnet_b0", "mobilenet_v2", "resnet50", "googlenet"])
def test_every_family_with_a_pooled_head_exports(
    backbone: str, make_classifier: Callable[..., Classifier], films: torch.Tensor
) -> None:
    classifier = make_classifier(backbone)
    with torch.no_grad():  # untrained nets have maps of thousands, for which no absolute bound holds
        largest = classifier.features(films).abs().max()
        classifier.head.fc1.weight /= largest
    explained = Explained([classifier])
    assert_parity(explained, export_onnx(explained), films)
