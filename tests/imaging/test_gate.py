"""Quality is measured, and the intended-use gate answers pass, fail or unknown with a sentence."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from hilum.config import canonical_json, from_mapping, to_mapping
from hilum.errors import ConfigError
from hilum.imaging.dicom_writing import FilmHeader, film_bytes
from hilum.imaging.intended_use import CHECKS, Check, Gate, GatePolicy, check_intended_use, read_policy
from hilum.imaging.preprocessing import area_average
from hilum.imaging.quality import measure_quality
from hilum.imaging.radiograph import FilmFacts, Radiograph
from hilum.imaging.reading import read_film

GOOD = {
    "format": "dicom", "modality": "DX", "presentation_intent": "FOR PRESENTATION", "view_position": "PA",
    "age_years": 50.0, "body_part": "CHEST", "colour": False, "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
}  # fmt: skip


@pytest.fixture(scope="module")
def picture(chest_like):
    return chest_like((256, 224), 12) * np.uint16(16)


def gate(picture, *, flags=(), policy=None, **facts):
    film = Radiograph(pixels=picture.copy(), facts=FilmFacts(**{**GOOD, **facts}), sha256="0" * 64, flags=flags)
    return check_intended_use(film, measure_quality(film.pixels), policy or GatePolicy())


def answer(found, code):
    return next(check for check in found.checks if check.code == code)


def test_good_film_passes_every_check(picture):
    """An adult frontal DX chest film for presentation is analysed, and every check says so in a sentence."""
    found = gate(picture)
    assert found.analyse
    assert found.reasons == ()
    assert [check.code for check in found.checks] == list(CHECKS)
    assert all(check.outcome == "pass" and check.sentence.endswith(".") for check in found.checks)


@pytest.mark.parametrize(
    ("facts", "code", "sentence"),
    [
        ({"modality": "CT"}, "modality", "Modality is CT, but only CR, DX are analysed."),
        ({"presentation_intent": "FOR PROCESSING"}, "presentation", "Presentation intent is FOR PROCESSING, but"),
        ({"view_position": "LL"}, "view", "View position is LL, but only AP, PA are analysed."),
        ({"view_position": "LATERAL"}, "view", "View position is LATERAL"),
        ({"view_position": None, "patient_orientation": ("A", "F")}, "view", "orientation is lateral, not frontal"),
        ({"age_years": 17.9}, "adult", "younger than 18 years"),
        ({"age_years": 0.5}, "adult", "younger than 18 years"),
        ({"body_part": "ABDOMEN"}, "body-part", "Body part is ABDOMEN, but only CHEST, THORAX, LUNG are analysed."),
        ({"body_part": "CHEST ABDOMEN"}, "body-part", "Body part is CHEST ABDOMEN, but"),
        ({"colour": True}, "grey", "in colour, and a radiograph is grey"),
    ],
)
def test_what_is_out_of_use_is_refused(picture, facts, code, sentence):
    """Each refusal names what was found and what would be right."""
    found = gate(picture, **facts)
    assert not found.analyse
    assert answer(found, code).outcome == "fail"
    assert len(found.reasons) == 1
    assert sentence in found.reasons[0]


@pytest.mark.parametrize(
    ("fact", "code", "sentence"),
    [
        (
            "modality",
            "modality",
            "Modality (0008,0060) holds a text that is none of DICOM's terms for it, but only CR, DX",
        ),
        ("presentation_intent", "presentation", "Presentation intent (0008,0068) holds a text"),
        ("view_position", "view", "View position (0018,5101) holds a text"),
        ("body_part", "body-part", "Body part (0018,0015) holds a text"),
    ],
)
@pytest.mark.parametrize("text", ["QANARY", "QANARY CHEST", "CHEST QANARY", "PA QANARY", "CHEST " * 20])
def test_a_text_that_is_no_term_is_refused_and_not_quoted(picture, fact, code, sentence, text):
    """It may hold a name; its attribute is named, and what would be right."""
    found = answer(gate(picture, **{fact: text}), code)
    assert found.outcome == "fail"
    assert found.sentence.startswith(sentence)
    assert found.sentence.endswith("are analysed.")
    assert "QANARY" not in found.sentence
    assert len(found.sentence) < 160


def test_a_site_s_own_term_is_quoted(picture):
    """The site wrote it into its policy."""
    found = gate(picture, policy=GatePolicy(body_parts=("BRUSTKORB",)), body_part="BRUSTKORB")
    assert answer(found, "body-part").sentence == "Body part is BRUSTKORB."


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"modality": None}, "modality"),
        ({"presentation_intent": None, "sop_class_uid": None}, "presentation"),
        ({"view_position": None}, "view"),
        ({"age_years": None}, "adult"),
        ({"body_part": None}, "body-part"),
        ({"body_part": "AP"}, "body-part"),
        ({"colour": None}, "grey"),
    ],
)
def test_unknown_follows_the_policy(picture, facts, code):
    """By default an unknown is named and the film analysed; a site may refuse it."""
    lenient = gate(picture, **facts)
    assert lenient.analyse
    assert answer(lenient, code).outcome == "unknown"
    assert lenient.unknowns == (answer(lenient, code).sentence,)
    strict = gate(picture, policy=GatePolicy(refuse_unknown=(code,)), **facts)
    assert not strict.analyse
    assert strict.reasons == lenient.unknowns
    assert strict.unknowns == ()


@pytest.mark.parametrize(
    "facts",
    [
        {"body_part": "CHEST PA"},
        {"body_part": "PORT CHEST"},
        {"body_part": "THORAX"},
        {"view_position": None, "patient_orientation": ("L", "F")},
        {"presentation_intent": None, "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1", "modality": "CR"},
        {"presentation_intent": None},
    ],
)
def test_what_devices_really_write_passes(picture, facts):
    """Words added to the body part, frontal orientation without a view, CR without an intent."""
    assert all(check.outcome == "pass" for check in gate(picture, **facts).checks)


def test_contradicting_polarity_is_unknown(picture):
    """The header contradicts itself, so black and white may be swapped."""
    found = gate(picture, flags=("polarity-contradiction",))
    assert found.analyse
    assert answer(found, "polarity").outcome == "unknown"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: np.zeros((256, 256), np.uint16), "100.0% of the picture is black"),
        (lambda: np.full((256, 256), 65535, np.uint16), "100.0% of the picture is white"),
        (lambda: np.full((256, 256), 30000, np.uint16), "picture is blank"),
        (lambda: np.random.default_rng(0).integers(0, 65536, (256, 256), dtype=np.uint16), "picture is noise"),
        (lambda: np.full((100, 600), 30000, np.uint16), "has 100 × 600 pixels, but needs 128 each way"),
    ],
    ids=["black", "white", "blank", "noise", "small"],
)
def test_unreadable_pictures_are_refused(make, sentence):
    """By the pixels alone, whatever the header says."""
    found = gate(make())
    assert not found.analyse
    assert any(sentence in reason for reason in found.reasons)


def test_picture_that_is_no_frontal_chest_is_unknown(picture):
    """On its side, or with one dark field, a film isn't called frontal, whatever its header says; a site may refuse."""
    for other in (np.rot90(picture), picture[:, : picture.shape[1] * 2 // 3]):
        found = gate(other)
        assert answer(found, "view").outcome == "pass"
        assert answer(found, "frontal-picture").outcome == "unknown"
        assert "doesn't show two lungs beside each other" in answer(found, "frontal-picture").sentence
        assert found.analyse
        assert not gate(other, policy=GatePolicy(refuse_unknown=("frontal-picture",))).analyse
    assert answer(gate(picture), "frontal-picture").outcome == "pass"
    strict = gate(picture, policy=GatePolicy(minimum_frontal_fit=0.99))
    assert answer(strict, "frontal-picture").outcome == "unknown"


def test_every_answer_of_the_gate_is_a_sentence(picture):
    """Whatever the outcome, each check has a stable code and one sentence."""
    facts = [{}, dict.fromkeys(("modality", "view_position", "age_years", "body_part", "colour"))]
    facts += [{"modality": "CT", "view_position": "LL", "age_years": 3.0, "body_part": "KNEE", "colour": True}]
    for given, made in itertools.product(facts, (picture, np.rot90(picture), np.zeros((64, 64), np.uint16))):
        found = gate(made, flags=("polarity-contradiction",), presentation_intent=None, **given)
        assert [check.code for check in found.checks] == list(CHECKS)
        for check in found.checks:
            assert check.outcome in ("pass", "fail", "unknown")
            assert not check.sentence[0].islower()
            assert check.sentence.endswith(".")


def test_wrong_policy():
    """A check that doesn't exist can't be refused; the nearest one is named."""
    with pytest.raises(ConfigError, match="refuse_unknown holds 'ages'.*Known: modality"):
        GatePolicy(refuse_unknown=("ages",))


def test_policy_of_a_site_comes_from_a_file(tmp_path):
    """Fields left out keep their defaults; what is wrong is named with the file."""
    path = tmp_path / "gate.json"
    path.write_text('{"minimum_age_years": 16, "refuse_unknown": ["view", "frontal-picture"], "second_decoder": false}')
    expected = GatePolicy(minimum_age_years=16, refuse_unknown=("view", "frontal-picture"), second_decoder=False)
    assert read_policy(path) == expected
    for content, match in (
        ("[]", "gate.json holds list"),
        ("{", "gate.json can't be read as JSON"),
        ('{"minimum_ages": 3}', "minimum_ages"),
        ('{"refuse_unknown": ["ages"]}', "refuse_unknown holds 'ages'"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=match):
            read_policy(path)
    with pytest.raises(ConfigError, match="can't be read as JSON: FileNotFoundError"):
        read_policy(tmp_path / "none.json")


def test_policy_and_verdict_are_plain_data(picture):
    """The policy reads back from a mapping, and a verdict becomes JSON."""
    policy = GatePolicy(minimum_age_years=16, refuse_unknown=("view",))
    assert from_mapping(GatePolicy, to_mapping(policy)) == policy
    assert '"outcome":"pass"' in canonical_json(gate(picture))
    assert from_mapping(Gate, to_mapping(gate(picture))) == gate(picture)


def test_long_header_text_is_cut(picture):
    """Free text of a header doesn't travel whole into a sentence."""
    assert "SMITH" not in gate(picture, view_position="X" * 16 + "SMITH").reasons[0]


def test_a_failing_check_alone_gives_a_reason():
    """A verdict made elsewhere, without the refuses mark, still says why."""
    check = Check(code="view", outcome="fail", sentence="It is lateral.")
    assert Gate(analyse=False, checks=(check,)).reasons == ("It is lateral.",)


def test_dicom_film_end_to_end(chest_like):
    """A film written as DX passes; the same one as a lateral film of a child fails twice."""
    header = FilmHeader(age_years=40, window=(2048, 4096), bits_stored=12)
    for changes, reasons in (({}, 0), ({"view_position": "LL", "age_years": 9.0}, 2)):
        content, _ = film_bytes(chest_like(), dataclasses.replace(header, **changes))
        film = read_film(content)
        assert len(check_intended_use(film, measure_quality(film.pixels), GatePolicy()).reasons) == reasons


def test_raster_film_is_analysed_with_unknowns(chest_like):
    """A PNG says nothing of the examination: five unknowns, no failure."""
    buffer = io.BytesIO()
    Image.fromarray(chest_like(bits=8)).save(buffer, "PNG")
    film = read_film(buffer.getvalue())
    found = check_intended_use(film, measure_quality(film.pixels), GatePolicy())
    assert found.analyse
    unknown = {check.code for check in found.checks if check.outcome == "unknown"}
    assert unknown == {"modality", "presentation", "view", "adult", "body-part"}


def test_real_films_pass_the_picture_checks(shared_data):
    """Of sixty real chest films none is called blank, noise or colour."""
    for path in sorted((shared_data / "chest/images").glob("*.jpg"))[::20][:60]:
        film = read_film(path)
        found = check_intended_use(film, measure_quality(film.pixels), GatePolicy())
        assert {check.code: check.outcome for check in found.checks}["exposed"] == "pass", path.name
        assert found.analyse


def test_real_films_are_told_from_turned_and_halved_ones(shared_data):
    """Few of thirty frontal films are called unknown, and most of them are once turned, or cut to one lung."""
    films = [read_film(path).pixels for path in sorted((shared_data / "chest/images").glob("*.jpg"))[1::40][:30]]
    limit = GatePolicy().minimum_frontal_fit

    def unknown(pictures):
        return np.mean([measure_quality(picture).frontal_fit < limit for picture in pictures])

    assert unknown(films) <= 0.07
    assert unknown([np.rot90(film) for film in films]) >= 0.8
    assert unknown([film[:, : film.shape[1] // 2] for film in films]) >= 0.5


def test_quality_by_hand():
    """Half black, half white: full contrast, both halves clipped, one bit of entropy."""
    film = np.zeros((256, 256), np.uint16)
    film[:, 128:] = 65535
    quality = measure_quality(film)
    assert (quality.contrast, quality.mean, quality.entropy_bits) == (1.0, 0.5, 1.0)
    assert (quality.black_share, quality.white_share) == (0.5, 0.5)
    assert (quality.clipped_black, quality.clipped_white) == (0.5, 0.5)
    # One step of 1 in each row of 255 steps across, none down.
    assert quality.sharpness == pytest.approx((1 / 255 + 0) / 2)
    assert quality.structure > 0.9


def test_sharpness_falls_with_blur(picture):
    """Averaging neighbours lowers it."""
    blurred = (picture[:-1, :-1] // 4 + picture[1:, :-1] // 4 + picture[:-1, 1:] // 4 + picture[1:, 1:] // 4).copy()
    noisy = picture + np.random.default_rng(0).integers(0, 4000, picture.shape).astype(np.uint16)
    assert measure_quality(noisy).sharpness > measure_quality(picture).sharpness
    assert measure_quality(blurred).sharpness <= measure_quality(picture).sharpness * 1.01


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_tiny_films_are_measured(shape):
    """No division by zero, no NaN."""
    quality = measure_quality(np.full(shape, 7, np.uint16))
    assert all(np.isfinite(value) for value in to_mapping(quality).values())


@pytest.mark.parametrize("shape", [(700, 900), (1024, 1024), (60, 40)])
def test_measures_are_those_of_plain_numpy(shape):
    """However they are counted: percentiles, shares, histogram and gradients to the last bit."""
    random = np.random.default_rng(0)
    film = (random.random(shape) * np.linspace(0, 1.2, shape[1])).clip(0.004, 1.0)
    film = np.where(random.random(shape) < 0.02, 0, film * 65535).astype(np.uint16)
    quality = measure_quality(film)
    averaged = area_average(film, min(256, shape[0]), min(256, shape[1])) / 65535.0
    sampled = film[:: -(-shape[0] // 256), :: -(-shape[1] // 256)]
    low, high = np.percentile(averaged, (1.0, 99.0))
    shares = np.bincount(sampled.ravel() >> 8, minlength=256) / sampled.size
    gradient = np.mean([np.abs(np.diff(averaged, axis=axis)).mean() for axis in (0, 1)])
    assert (quality.contrast, quality.sharpness) == (high - low, gradient / (high - low))
    assert (quality.black_share, quality.white_share) == (np.mean(averaged <= 0.01), np.mean(averaged >= 0.99))
    assert (quality.clipped_black, quality.clipped_white) == (np.mean(sampled == 0), np.mean(sampled == 65535))
    assert quality.entropy_bits == pytest.approx(-np.sum(shares[shares > 0] * np.log2(shares[shares > 0])), abs=1e-12)
