"""Assessments: label, operating points, gate, abstention, order, provenance; and nothing of the patient."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.bundle.small import CHANNELS, FINDINGS, small_bundle
from tests.inference.films import film, lateral

from hilum.bundle.distribution import OodReference
from hilum.bundle.reading import read_bundle
from hilum.bundle.schema import AbstentionPolicy
from hilum.errors import BundleError, FilmError, UsageError
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.preprocessing import preprocess
from hilum.imaging.reading import read_film
from hilum.inference.assess import MAX_BATCH, Assessor, open_bundle
from hilum.inference.assessment import DECIMALS
from hilum.inference.preparing import prepare_film


def changed(assessor: Assessor, **changes: object) -> Assessor:
    return Assessor(replace(assessor.info, **changes), assessor.sha256, assessor.runtime)  # type: ignore[arg-type]


def test_an_answer_is_the_graphs_own(assessor: Assessor) -> None:
    read = read_film(film())
    answer = assessor.assess(read)
    raw = assessor.runtime.run(preprocess(read.pixels, assessor.info.preprocessing)[None, None])
    assert list(answer.probs) == list(FINDINGS)
    np.testing.assert_array_equal(list(answer.probs.values()), raw.probabilities[0])
    np.testing.assert_array_equal(list(answer.mc_std.values()), raw.mc_std[0])
    assert answer.mutual_information == raw.mutual_information[0]
    assert answer.cams is not None
    np.testing.assert_array_equal(answer.cams, raw.cam[0])
    assert answer.features is not None
    assert answer.ood_distance == pytest.approx(assessor.info.ood.distance(raw.features)[0])  # type: ignore[union-attr]


def test_the_label_is_the_likeliest_finding_and_positives_reach_their_threshold(assessor: Assessor) -> None:
    probs = assessor.assess(read_film(film())).probs
    likeliest = max(probs, key=lambda name: probs[name])
    low, high = sorted(probs, key=lambda name: probs[name])[:2]
    strict = changed(assessor, thresholds={low: probs[low], high: probs[high] + 1e-6, likeliest: 0.0})
    answer = strict.assess(read_film(film()))
    assert answer.outcome == "answered"
    assert answer.label == likeliest
    assert answer.positive == (likeliest, low)  # at least the threshold; likeliest first
    assert answer.risk == pytest.approx(1 - probs["normal"])
    assert answer.top_abnormal == max(("pneumonia", "covid-19"), key=lambda name: probs[name])


def test_a_film_outside_the_intended_use_is_not_analysed_and_says_why(assessor: Assessor) -> None:
    answer = assessor.assess(read_film(lateral()))
    assert (answer.outcome, answer.analysed, answer.abstained, answer.label) == ("not-analysed", False, False, None)
    assert any("LL" in reason for reason in answer.reasons)
    assert (answer.probs, answer.positive, answer.risk, answer.top_abnormal, answer.cams) == ({}, (), None, None, None)
    with pytest.raises(UsageError, match="was not analysed, so it has no heat map for covid-19: .*LL"):
        answer.heatmap("covid-19")


def test_a_film_unlike_the_known_ones_goes_to_a_person(assessor: Assessor) -> None:
    far = OodReference(mean=(1e6,) * CHANNELS, scale=(1.0,) * CHANNELS, threshold=1.0)
    answer = changed(assessor, ood=far).assess(read_film(film()))
    assert (answer.outcome, answer.label, answer.abstained, answer.analysed) == ("abstained", None, True, True)
    assert "unlike the films" in answer.reasons[0]
    assert answer.probs  # a person may still see what the model computed
    assert answer.heatmap("covid-19").values.shape == (16, 16)


def test_an_unsure_model_gives_no_label(assessor: Assessor) -> None:
    unsure = changed(assessor, abstention=AbstentionPolicy(least_probability=1.0))
    assert unsure.assess(read_film(film())).reasons[0].startswith("No finding is likely enough")


def test_without_a_reference_there_is_no_distance(assessor: Assessor) -> None:
    assert changed(assessor, ood=None).assess(read_film(film())).ood_distance is None


def test_a_site_can_be_stricter_than_the_bundle(bundle_path: Path) -> None:
    with open_bundle(bundle_path, 1, policy=GatePolicy(refuse_unknown=("adult",))) as site:
        answer = site.assess(read_film(film(age_years=None)))
        assert answer.outcome == "not-analysed"
        assert "Age is not recorded." in answer.reasons
        assert site.assess(read_film(film())).outcome == "answered"


def test_many_films_keep_their_order_and_refused_ones_their_place(assessor: Assessor) -> None:
    count = 2 * MAX_BATCH + 3
    prepared = [assessor.prepare(lateral(i) if i % 5 == 0 else film(i)) for i in range(count)]
    answers = assessor.assess_prepared(prepared)
    assert [one.film_sha256 for one in answers] == [one.sha256 for one in prepared]
    assert [one.analysed for one in answers] == [i % 5 != 0 for i in range(count)]
    alone = assessor.assess_prepared([prepared[11]])[0]
    np.testing.assert_allclose(list(answers[11].probs.values()), list(alone.probs.values()), atol=1e-6)


def test_no_films_give_no_answers(assessor: Assessor) -> None:
    assert assessor.assess_prepared([]) == []


def test_a_path_and_its_bytes_give_the_same_answer(assessor: Assessor, tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(film(3))
    one, other, third = assessor.prepare(path), assessor.prepare(film(3)), assessor.prepare(str(path))
    assert one.sha256 == other.sha256 == third.sha256
    np.testing.assert_array_equal(one.tile, other.tile)


def test_an_unreadable_film_raises_with_its_code(assessor: Assessor) -> None:
    with pytest.raises(FilmError) as caught:
        prepare_film(film()[:3000], assessor.info.preprocessing, assessor.policy)
    assert caught.value.code == "truncated"


def test_a_closed_bundle_says_so(bundle_path: Path) -> None:
    with open_bundle(bundle_path, 1) as opened:
        pass
    with pytest.raises(UsageError, match="The bundle small is closed. Open it again"):
        opened.assess(read_film(film()))


def test_a_folder_gives_the_same_answers_as_a_zip(tmp_path: Path, assessor: Assessor) -> None:
    with open_bundle(small_bundle(tmp_path / "small"), 1) as folder:
        assert folder.sha256 == assessor.sha256
        one, other = folder.assess(read_film(film())), assessor.assess(read_film(film()))
    assert one.probs == other.probs


def test_a_damaged_bundle_is_not_opened(tmp_path: Path, bundle_path: Path) -> None:
    content = bytearray(bundle_path.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "b.hilum").write_bytes(content)
    with pytest.raises(BundleError, match="Bundle member '.*' (is damaged|was changed)"):
        open_bundle(tmp_path / "b.hilum")


# --- JSON


def test_json_is_canonical_rounded_and_says_what_it_is_not_for(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    with open_bundle(bundle_path, 1) as opened:
        fixed = Assessor(bundle.info, bundle.sha256, opened.runtime, clock=lambda: "2026-01-01T00:00:00Z")
        one, other = fixed.assess(read_film(film())), fixed.assess(read_film(film()))
    text = one.to_canonical_json()
    assert text == other.to_canonical_json()
    values = json.loads(text)
    assert text == json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert values["notice"] == "assistive, not for diagnosis"
    assert values["probs"]["covid-19"] == round(one.probs["covid-19"], DECIMALS)
    made = values["provenance"]
    assert (made["bundle_sha256"], made["answered_at"]) == (bundle.sha256, "2026-01-01T00:00:00Z")
    assert (made["precision"], made["preprocessing_version"]) == ("fp32", bundle.info.preprocessing.version)
    assert values["gate"]["analyse"] is True
    assert {check["code"] for check in values["gate"]["checks"]} >= {"view", "adult"}


def test_heat_maps_stand_in_the_json_as_numbers_when_asked(assessor: Assessor) -> None:
    """Rounded activations of every finding; none for a film that was not analysed."""
    seen, unseen = assessor.assess(read_film(film())), assessor.assess(read_film(lateral()))
    assert "heatmaps" not in seen.to_json()
    maps = json.loads(seen.to_canonical_json(maps=True))["heatmaps"]
    assert set(maps) == set(FINDINGS)
    for row, finding in enumerate(seen.findings):
        assert np.array(maps[finding]["values"]) == pytest.approx(seen.cams[row], abs=10.0**-DECIMALS)
        assert np.array(maps[finding]["spread"]) == pytest.approx(seen.cam_std[row], abs=10.0**-DECIMALS)
    assert unseen.to_json(maps=True)["heatmaps"] == {}


def test_nothing_of_the_patient_is_in_the_json(assessor: Assessor) -> None:
    canaries = {
        "patient_id": "CANARY1",
        "patient_name": "CANARY2^X",
        "accession_number": "CANARY3",
        "institution": "CANARY4",
        "study_instance_uid": "1.2.826.0.1.987654321",
    }
    for make in (film, lateral):
        content = make(0) if make is lateral else film(0, **canaries)
        text = assessor.assess(read_film(content)).to_canonical_json()
        assert "CANARY" not in text
        assert "987654321" not in text
        assert "SYN0" not in text


def test_a_finding_that_is_none_lists_the_known_ones(assessor: Assessor) -> None:
    with pytest.raises(UsageError, match="'covid' is not a finding of this model. Did you mean 'covid-19'"):
        assessor.assess(read_film(film())).heatmap("covid")


def test_answering_imports_no_plots_no_sklearn_and_no_torch(bundle_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hilum.inference.assess import open_bundle\n"
        f"with open_bundle({str(bundle_path)!r}, 1) as b: pass\n"
        "print(sorted({'matplotlib', 'sklearn', 'torch', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.strip() == "[]"


def test_preparing_imports_no_runtime() -> None:
    """A sandboxed child prepares films and never runs the graph."""
    code = "import sys, hilum.inference.preparing; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.strip() == "False"
