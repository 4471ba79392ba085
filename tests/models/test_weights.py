"""Weights: strict, readable when they differ, checked by hash, and never half-loaded."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hilum.errors import WeightsError
from hilum.models.encoders import Encoder, build_encoder
from hilum.models.weights import loading
from hilum.models.weights.fetching import published_url
from hilum.models.weights.loading import batch_norm_folded, load_weights
from hilum.models.weights.registry import IMAGENET_MEAN, NAMED_WEIGHTS
from hilum.models.zoo import ARCHITECTURES
from hilum.progress import Silent

UNREACHABLE = "http://127.0.0.1:1/squeezenet1_1-0123abcd.pth"


def state_of(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in encoder.state_dict().items()}


@pytest.fixture
def small() -> Encoder:
    return build_encoder("hilum_small", seed=0)


@pytest.fixture
def other_state() -> dict[str, torch.Tensor]:
    return state_of(build_encoder("hilum_small", seed=1))


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[str, dict[str, torch.Tensor], list[str]]]:
    """A local server that publishes SqueezeNet 1.1 as torchvision does: URL, tensors, and the requests it saw."""
    folder = tmp_path / "published"
    folder.mkdir()
    tensors = state_of(build_encoder("squeezenet1_1", seed=7)) | {"classifier.1.bias": torch.zeros(1000)}
    torch.save(tensors, folder / "whole.pth")
    digest = hashlib.sha256((folder / "whole.pth").read_bytes()).hexdigest()
    (folder / "whole.pth").rename(folder / f"squeezenet1_1-{digest[:8]}.pth")
    seen: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, format: str, *args: object) -> None:
            seen.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/squeezenet1_1-{digest[:8]}.pth", tensors, seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_fills_every_tensor(tmp_path: Path, small: Encoder, other_state: dict[str, torch.Tensor]) -> None:
    save_file(other_state, tmp_path / "w.safetensors")
    info = load_weights(small, tmp_path / "w.safetensors")
    assert all(torch.equal(value, other_state[key]) for key, value in small.state_dict().items())
    assert info.sha256 == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert (info.name, info.backbone, info.pretrained_on) == ("w.safetensors", "hilum_small", ("not recorded",))
    assert info.mean == (0.5, 0.5, 0.5)
    assert "doesn't record its preprocessing; that of the hilum weights was assumed" in info.notes[0]


def test_a_file_that_describes_itself_is_believed(
    tmp_path: Path, small: Encoder, other_state: dict[str, torch.Tensor]
) -> None:
    facts = {"mean": "0.1", "std": "0.2,0.2,0.2", "licence": "CC0", "pretrained_on": "a; b", "labels": "shapes"}
    save_file(other_state, tmp_path / "w.safetensors", metadata=facts)
    info = load_weights(small, tmp_path / "w.safetensors")
    assert (info.mean, info.std, info.licence) == ((0.1,), (0.2, 0.2, 0.2), "CC0")
    assert (info.pretrained_on, info.labels, info.notes) == (("a", "b"), "shapes", ())


def test_unreadable_mean_in_a_file_is_refused(
    tmp_path: Path, small: Encoder, other_state: dict[str, torch.Tensor]
) -> None:
    save_file(other_state, tmp_path / "w.safetensors", metadata={"mean": "half"})
    with pytest.raises(WeightsError, match=r"w.safetensors records mean or std as 'half'; write numbers"):
        load_weights(small, tmp_path / "w.safetensors")


def test_the_published_classifier_is_left_aside_and_said_so(
    tmp_path: Path, small: Encoder, other_state: dict[str, torch.Tensor]
) -> None:
    save_file(other_state | {"fc.weight": torch.zeros(3, 176), "fc.bias": torch.zeros(3)}, tmp_path / "w.safetensors")
    info = load_weights(small, tmp_path / "w.safetensors")
    assert info.notes[0] == "2 tensors of the published classifier were left aside (fc.bias, fc.weight)."


def test_difference_is_readable_and_nothing_is_loaded(
    tmp_path: Path, small: Encoder, other_state: dict[str, torch.Tensor]
) -> None:
    before = state_of(small)
    missing = [key for key in other_state if key.startswith("block1") and "num_batches" not in key]
    wrong = {key: value for key, value in other_state.items() if key not in missing}
    save_file(wrong | {"stem.0.weight": torch.zeros(1), "extra": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_weights(small, tmp_path / "w.safetensors")
    text = str(caught.value)
    assert f"{len(missing)} missing: {', '.join(missing[:5])} and {len(missing) - 5} more" in text
    assert "1 unexpected: extra;" in text
    assert (
        "1 of a wrong shape: stem.0.weight is [1] but must be [16, 3, 3, 3]. Give whole weights of hilum_small" in text
    )
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())


def test_values_that_are_not_finite_are_refused(
    tmp_path: Path, small: Encoder, other_state: dict[str, torch.Tensor]
) -> None:
    other_state["block2.branch.0.weight"][0] = float("nan")
    save_file(other_state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="hold values that are not finite, in block2.branch.0.weight"):
        load_weights(small, tmp_path / "w.safetensors")


def test_counters_of_batches_may_be_absent(
    tmp_path: Path, small: Encoder, other_state: dict[str, torch.Tensor]
) -> None:
    save_file({k: v for k, v in other_state.items() if "num_batches" not in k}, tmp_path / "w.safetensors")
    assert load_weights(small, tmp_path / "w.safetensors").sha256


def test_old_names_of_densenet_are_understood(tmp_path: Path) -> None:
    state = state_of(build_encoder("densenet121", seed=1))
    dotted = {
        (key[: key.rindex(".") - 1] + "." + key[key.rindex(".") - 1 :] if "denselayer" in key else key): value
        for key, value in state.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in dotted
    save_file(dotted, tmp_path / "w.safetensors")
    encoder = build_encoder("densenet121", seed=0)
    load_weights(encoder, tmp_path / "w.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())


def test_folded_batch_norm_is_noticed(small: Encoder) -> None:
    for layer in small.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var.fill_(1 - layer.eps)
    assert batch_norm_folded(small)
    small.get_submodule("stem.1").running_mean.fill_(0.1)
    assert not batch_norm_folded(small)
    assert not batch_norm_folded(build_encoder("lenet5", seed=0)), "a net without BatchNorm has none folded"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.safetensors", None, r"Weights file .*gone.safetensors does not exist. Give a .safetensors file"),
        ("w.bin", b"x", r"Weights file .*w.bin is not a .safetensors file. Convert it first"),
        ("w.safetensors", b"x" * 20, r"Weights file w.safetensors can't be read \(.+\). Get it anew"),
        ("w.pth", b"x" * 20, r"Weights file w.pth can't be read \(.+\). Get it anew"),
        ("w-0123456789.pth", b"x", r"w-0123456789.pth, given, has SHA-256 .+, but its name promises 0123456789…"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, small: Encoder, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_weights(small, tmp_path / name)


def test_code_in_a_pickle_is_never_run(tmp_path: Path, small: Encoder) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("ran",))

    torch.save({"stem.0.weight": Trap()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="Weights file w.pth can't be read"):
        load_weights(small, tmp_path / "w.pth")


def test_a_pickle_of_something_else_is_refused(tmp_path: Path, small: Encoder) -> None:
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="Weights file w.pth holds no table of tensors"):
        load_weights(small, tmp_path / "w.pth")


def test_published_weights_are_fetched_once_checked_and_kept(
    tmp_path: Path, published: tuple[str, dict[str, torch.Tensor], list[str]]
) -> None:
    url, tensors, seen = published
    encoder = build_encoder("squeezenet1_1", seed=0)
    info = load_weights(encoder, "imagenet", cache=tmp_path / "cache", url=url)
    assert all(torch.equal(value, tensors[key]) for key, value in encoder.state_dict().items())
    assert (info.name, info.mean, info.pretrained_on) == ("imagenet", IMAGENET_MEAN, ("imagenet-1k",))
    assert url.split("-")[1][:8] == info.sha256[:8]
    kept = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert [Path(name).suffix for name in kept] == [".json", ".safetensors"]
    assert json.loads((tmp_path / "cache" / kept[0]).read_text())["sha256"] == info.sha256
    again = load_weights(build_encoder("squeezenet1_1", seed=0), "imagenet", cache=tmp_path / "cache", url=url)
    assert again == info
    assert len(seen) == 1, "the second time comes from the cache"


def test_a_changed_cache_is_not_trusted(
    tmp_path: Path, published: tuple[str, dict[str, torch.Tensor], list[str]]
) -> None:
    url, tensors, seen = published
    load_weights(build_encoder("squeezenet1_1", seed=0), "imagenet", cache=tmp_path, url=url)
    (kept,) = tmp_path.glob("*.safetensors")
    changed = load_file(kept)
    changed["features.0.bias"] += 1
    save_file(changed, kept)
    encoder = build_encoder("squeezenet1_1", seed=0)
    load_weights(encoder, "imagenet", cache=tmp_path, url=url)
    assert torch.equal(encoder.state_dict()["features.0.bias"], tensors["features.0.bias"])
    assert len(seen) == 2


def test_a_replaced_download_is_refused_and_not_kept(
    tmp_path: Path, published: tuple[str, dict[str, torch.Tensor], list[str]]
) -> None:
    url = published[0]
    (file,) = (tmp_path / "published").glob("*.pth")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"downloaded from .*, has SHA-256 .*damaged or was replaced"):
        load_weights(build_encoder("squeezenet1_1", seed=0), "imagenet", cache=tmp_path / "cache", url=url)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("missing", [True, False])
def test_offline_names_url_hash_and_mend(
    tmp_path: Path, published: tuple[str, dict[str, torch.Tensor], list[str]], missing: bool
) -> None:
    url = published[0].replace("squeezenet1_1-", "other-") if missing else UNREACHABLE
    with pytest.raises(WeightsError) as caught:
        load_weights(build_encoder("squeezenet1_1", seed=0), "imagenet", cache=tmp_path, url=url)
    text = str(caught.value)
    assert text.startswith("Published weights of squeezenet1_1 can't be downloaded: ")
    assert f"Fetch {url} (SHA-256 begins with {url[-12:-4]})" in text
    assert text.endswith("pass the file with --weights FILE.")


def test_with_downloads_switched_off_the_cache_still_serves_and_nothing_is_asked_for(
    tmp_path: Path, published: tuple[str, dict[str, torch.Tensor], list[str]]
) -> None:
    url, _, seen = published
    options = {"cache": tmp_path, "url": url, "may_download": False}
    with pytest.raises(WeightsError, match=r"squeezenet1_1 are not in .*, and downloads are switched off. Fetch http"):
        load_weights(build_encoder("squeezenet1_1", seed=0), "imagenet", **options)
    assert not seen
    load_weights(build_encoder("squeezenet1_1", seed=0), "imagenet", cache=tmp_path, url=url)
    assert load_weights(build_encoder("squeezenet1_1", seed=0), "imagenet", **options).name == "imagenet"
    assert len(seen) == 1


def test_the_file_that_offline_people_fetch_by_hand_loads(
    tmp_path: Path, published: tuple[str, dict[str, torch.Tensor], list[str]]
) -> None:
    (file,) = (tmp_path / "published").glob("*.pth")
    encoder = build_encoder("squeezenet1_1", seed=0)
    load_weights(encoder, file)
    assert all(torch.equal(value, published[1][key]) for key, value in encoder.state_dict().items())


def test_every_published_network_has_a_url_with_its_hash() -> None:
    for (source, backbone), row in NAMED_WEIGHTS.items():
        assert backbone in ARCHITECTURES
        if source == "imagenet":
            name = published_url(row.entry).rsplit("/", 1)[1]
            assert name.startswith(backbone)
            assert len(name.rsplit("-", 1)[1]) == len("01234567.pth")
    assert published_url("ResNet18_Weights.IMAGENET1K_V1").endswith("/resnet18-f37072fd.pth")


def test_googlenet_is_normalised_as_its_transform_does() -> None:
    """torchvision's GoogLeNet undoes the usual normalisation inside; here that step is in mean and std."""
    from torchvision.models import GoogLeNet

    intensities = torch.rand((1, 3, 4, 4))
    usual = (intensities - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor((0.229, 0.224, 0.225)).view(
        1, 3, 1, 1
    )
    network = GoogLeNet(num_classes=2, aux_logits=False, transform_input=True, init_weights=False)
    row = NAMED_WEIGHTS[("imagenet", "googlenet")]
    ours = (intensities - torch.tensor(row.mean).view(1, 3, 1, 1)) / torch.tensor(row.std).view(1, 3, 1, 1)
    torch.testing.assert_close(network._transform_input(usual), ours)


def test_names_without_weights_say_for_which_there_are(small: Encoder) -> None:
    with pytest.raises(
        WeightsError, match="There are no 'imagenet' weights of hilum_small. They exist for: alexnet, vgg11"
    ):
        load_weights(small, "imagenet")


def test_missing_shipped_weights_are_said_with_the_mend(
    tmp_path: Path, small: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "SHIPPED", tmp_path)
    with pytest.raises(WeightsError, match=r"hilum_small.safetensors are missing.*hilum pretrain.*--weights FILE"):
        load_weights(small, "hilum")


def test_shipped_weights_load_by_name(
    tmp_path: Path, small: Encoder, other_state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(other_state, tmp_path / "hilum_small.safetensors")
    monkeypatch.setattr(loading, "SHIPPED", tmp_path)
    info = load_weights(small, "hilum")
    assert (info.name, info.licence, info.std) == ("hilum", "Apache-2.0", (0.25, 0.25, 0.25))
    assert torch.equal(small.state_dict()["stem.0.weight"], other_state["stem.0.weight"])


def test_the_package_ships_its_small_encoder_in_four_megabytes(small: Encoder) -> None:
    info = load_weights(small, "hilum")
    assert (loading.SHIPPED / "hilum_small.safetensors").stat().st_size <= 4_000_000
    assert not info.batch_norm_folded
    assert not info.notes


@pytest.mark.parametrize(
    ("backbone", "file", "folded"),
    [
        ("mobilenet_v2", "mobilenet_v2_imagenet_dequant_bnfolded.safetensors", True),
        ("squeezenet1_0", "squeezenet1_0_imagenet_deepcompression_folded.safetensors", False),
        ("squeezenet1_1", "squeezenet1_1_features_imagenet_folded.safetensors", False),
    ],
)
def test_real_weights_load(shared_data: Path, backbone: str, file: str, folded: bool) -> None:
    info = load_weights(build_encoder(backbone, seed=0), shared_data / "weights" / file, progress=Silent())
    assert info.batch_norm_folded is folded
    assert info.mean == IMAGENET_MEAN


def test_real_weights_without_their_last_layers_are_refused(shared_data: Path) -> None:
    file = shared_data / "weights" / "resnet18_imagenet_bnfolded_conv1_to_layer3.safetensors"
    with pytest.raises(WeightsError, match=r"doesn't fit the encoder of resnet18: 20 missing: layer4.0.conv1.weight"):
        load_weights(build_encoder("resnet18", seed=0), file)
