"""What docs/dicom.md tells to write into Orthanc's configuration, written into Orthanc's configuration."""

import json
import re
from pathlib import Path

import pytest
from tests.system.test_orthanc import CAPTURE, REPORT, Orthanc, by_dicom, reading_room, until
from tests.system.test_orthanc_priors import taken

ROOT = Path(__file__).parents[2]


@pytest.mark.system
def test_orthanc_as_the_page_sets_it_up_routes_a_film_and_gets_its_results(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "dicom.md").read_text()
    (settings,) = re.findall(r"```json\n(.*?)```", page, flags=re.S)
    (rule,) = re.findall(r"```lua\n(.*?)```", page, flags=re.S)
    said = json.loads(settings)
    (script,) = said["LuaScripts"]
    (tmp_path / script).write_text(rule)
    assert (said["DicomPort"], said["DicomModalities"]["hilum"]["Port"]) == (4242, 11112)
    orthanc = Orthanc(tmp_path / "orthanc")
    # On free ports of this machine, beside other tests.
    said["DicomPort"] = orthanc.dicom_port
    said["DicomModalities"]["hilum"] |= {"Host": "127.0.0.1", "Port": orthanc.hilum_port}
    said["LuaScripts"] = [str(tmp_path / script)]
    kept = orthanc.folder / "orthanc.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | said))
    orthanc.start()
    try:
        with reading_room(tmp_path, orthanc, by_dicom(orthanc)) as service:
            assert orthanc.web.post("/instances", content=taken(1, "20261101")).status_code == 200
            until(lambda: orthanc.count() == 3, "the film, its report and its heat map")
            classes = {one.SOPClassUID for one in orthanc.instances()}
            assert {REPORT, CAPTURE} < classes
            assert service.room.store.counts() == {"answered": 1}, "what came back was not routed again"
    finally:
        orthanc.stop()
        orthanc.web.close()
