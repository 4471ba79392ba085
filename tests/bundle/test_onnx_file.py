"""The walk over ONNX bytes: finds what onnx finds, and every place where values could lie in another file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.bundle.small import OPSET, small_graph

from hilum.bundle.archive import zip_bytes
from hilum.bundle.members import MEMBERS_MEMBER, members_of, write_members
from hilum.bundle.onnx_file import fields, model_facts
from hilum.bundle.reading import Bundle, read_bundle
from hilum.bundle.schema import OUTPUTS
from hilum.errors import BundleError


def test_it_finds_what_onnx_finds() -> None:
    facts, model = model_facts(small_graph()), onnx.load_from_string(small_graph())
    assert facts.opsets == {"": OPSET}
    assert facts.inputs == tuple(one.name for one in model.graph.input) == ("films",)
    assert facts.outputs == tuple(one.name for one in model.graph.output) == tuple(OUTPUTS)
    assert facts.external == ()
    assert not facts.trains


def outside(name: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def spoiled(where: str) -> bytes:
    """The small graph with one tensor, somewhere, whose values lie in another file."""
    model = onnx.load_from_string(small_graph())
    identity = helper.make_node("Constant", [], ["c"])
    if where == "initializer":
        model.graph.initializer.append(outside("w"))
    elif where == "attribute":
        identity.attribute.append(helper.make_attribute("value", outside("w")))
        model.graph.node.append(identity)
    elif where == "list":
        attribute = helper.make_attribute("value", [outside("w")])
        identity.attribute.append(attribute)
        model.graph.node.append(identity)
    elif where == "branch":
        inner = helper.make_graph([], "inner", [], [], [outside("w")])
        model.graph.node.append(helper.make_node("If", ["on"], ["x"], then_branch=inner))
    elif where == "sparse":
        sparse = helper.make_sparse_tensor(outside("w"), numpy_helper.from_array(np.zeros(4, np.int64), "i"), [4])
        model.graph.sparse_initializer.append(sparse)
    elif where == "function":
        identity.attribute.append(helper.make_attribute("value", outside("w")))
        function = helper.make_function("d", "F", [], ["c"], [identity], [helper.make_opsetid("", OPSET)])
        model.functions.append(function)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("where", ["initializer", "attribute", "list", "branch", "sparse", "function"])
def test_values_in_another_file_are_found_wherever_they_hide(where: str) -> None:
    assert model_facts(spoiled(where)).external == ("w",)


def packed(bundle: Bundle, model: bytes) -> bytes:
    contents = {**bundle.contents, "model.onnx": model}
    return zip_bytes({**contents, MEMBERS_MEMBER: write_members(members_of(contents))})


def changed(**said: str) -> bytes:
    model = onnx.load_from_string(small_graph())
    for key, value in said.items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def trained() -> bytes:
    model = onnx.load_from_string(small_graph())
    model.training_info.add()
    return bytes(model.SerializeToString())


def without(output: str) -> bytes:
    model = onnx.load_from_string(small_graph())
    kept = [one for one in model.graph.output if one.name != output]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return bytes(model.SerializeToString())


def in_opsets(**versions: int) -> bytes:
    """The small graph, said to be written in other operator sets; ``onnx`` stands for ONNX's own."""
    model = onnx.load_from_string(small_graph())
    del model.opset_import[:]
    for domain, version in versions.items():
        model.opset_import.append(helper.make_opsetid("" if domain == "onnx" else domain, version))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (in_opsets(onnx=16), "model.onnx is written in the operator sets: ONNX 16; it needs ONNX's own alone, version"),
        (in_opsets(onnx=21), "version 17 to 20. Export the model anew"),
        (in_opsets(onnx=17, elsewhere=1), "operator sets: ONNX 17, elsewhere 1;"),
        (in_opsets(), "operator sets: none;"),
        (spoiled("initializer"), "model.onnx keeps values of 'w' in another file"),
        (trained(), "model.onnx holds a training graph"),
        (without("cam"), r"model.onnx has inputs \['films'\] and lacks outputs \['cam'\]"),
        (
            changed(findings='["normal", "tb"]'),
            'model.onnx was exported for the findings .*"tb".*but bundle.json names',
        ),
        (changed(findings="7"), "model.onnx was exported for the findings 7"),
        (b"", r"model.onnx is no ONNX model \(its graph has no output\)"),
        (b"\x80", "model.onnx is no ONNX model"),
    ],
)
def test_a_model_that_a_bundle_never_holds_is_refused(tmp_path, bundle: Bundle, model: bytes, words: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "b.hilum").write_bytes(packed(bundle, model))
    with pytest.raises(BundleError, match=words):
        read_bundle(tmp_path / "b.hilum")


@pytest.mark.parametrize("version", [17, 20])
def test_operator_sets_that_are_tested_are_read(tmp_path: Path, bundle: Bundle, version: int) -> None:
    (tmp_path / "b.hilum").write_bytes(packed(bundle, in_opsets(onnx=version)))
    assert read_bundle(tmp_path / "b.hilum").graph.opsets == {"": version}


@pytest.mark.parametrize("said", ['["normal", "pneumonia", "covid-19"]', "normal, pneumonia,covid-19"])
def test_findings_in_the_graphs_metadata_must_agree(tmp_path, bundle: Bundle, said: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "b.hilum").write_bytes(packed(bundle, changed(findings=said)))
    assert read_bundle(tmp_path / "b.hilum").graph.metadata == {"findings": said}


def test_random_bytes_end_in_one_kind_of_error() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        with pytest.raises(BundleError, match="is no ONNX model"):
            model_facts(random.bytes(int(random.integers(1, 200))))


def test_nesting_is_bounded() -> None:
    graph = helper.make_graph([], "g", [], [])
    for _ in range(20):
        graph = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=graph)], "g", [], [])
    model = helper.make_model(graph)
    with pytest.raises(BundleError, match="nested more than 16 deep"):
        model_facts(bytes(model.SerializeToString()))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x08\x96\x01", [(1, 150)]),  # the example of the protobuf documentation
        (b"\x12\x07testing", [(2, b"testing")]),
        (b"\x0d\x00\x00\x80\x3f", [(1, b"\x00\x00\x80\x3f")]),
    ],
)
def test_fields_by_hand(content: bytes, found: list[tuple[int, object]]) -> None:
    read = [(number, v if isinstance(v, int) else bytes(v)) for number, v in fields(memoryview(content))]
    assert read == found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x12\x07test", "reaches past the end"),
        (b"\x0b", "wire type 3"),
        (b"\x08" + b"\xff" * 11, "is too long"),
    ],
)
def test_damaged_fields_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(fields(memoryview(content)))


@pytest.mark.parametrize(
    ("kind", "raw"),
    [(np.float32, True), (np.float32, False), (np.float64, True), (np.float64, False), (np.float16, True)],
)
def test_one_value_that_is_no_number_is_found_among_many(kind: type, raw: bool) -> None:
    """In either way that ONNX keeps values: as raw bytes, or as a list."""
    values = np.ones(1000, kind)
    model = onnx.load_from_string(small_graph())
    for number in (np.inf, -np.inf, np.nan):
        values[700] = number
        tensor = numpy_helper.from_array(values, "spoiled")
        if not raw:
            tensor = helper.make_tensor("spoiled", tensor.data_type, [1000], values.tolist())
        model.graph.initializer.append(tensor)
        found = model_facts(bytes(model.SerializeToString())).broken
        # Infinities bound things in sound graphs (Clip, masks); only NaN is never meant.
        assert found == (("spoiled",) if np.isnan(number) else ())


def test_integers_that_would_read_as_nan_are_none() -> None:
    model = onnx.load_from_string(small_graph())
    model.graph.initializer.append(numpy_helper.from_array(np.full(4, -1, np.int64), "all_bits_set"))
    assert model_facts(bytes(model.SerializeToString())).broken == ()


def test_a_bundle_with_weights_that_are_not_numbers_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    """With every hash right: as an exporter would write it after a training that went wrong."""
    contents = {**bundle.contents, "model.onnx": small_graph(w2=np.full((6, 3), np.nan, np.float32))}
    path = tmp_path / "b.hilum"
    path.write_bytes(zip_bytes({**contents, MEMBERS_MEMBER: write_members(members_of(contents))}))
    with pytest.raises(BundleError, match=r"model.onnx holds weights that are not numbers \('w2'\)"):
        read_bundle(path)
