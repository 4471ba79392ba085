"""Where keys are trusted, every verb that answers refuses a bundle that they didn't sign."""

import json
from pathlib import Path

import pytest
from tests.inference.films import film
from typer.testing import CliRunner

from hilum.bundle.reading import read_bundle
from hilum.cli.verbs import app
from hilum.errors import BundleError
from hilum.inference.predict import predict_files
from hilum.keys import create_key


def hilum(*arguments: str, **environment: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env=environment)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def unsigned(bundle_path: Path, tmp_path: Path) -> Path:
    path = tmp_path / "chest.hilum"
    path.write_bytes(bundle_path.read_bytes())
    return path


def test_keys_sign_and_verify_by_verbs(unsigned: Path, tmp_path: Path) -> None:
    key, public = str(tmp_path / "site.key"), str(tmp_path / "site.key.pub")
    made = hilum("keys", "create", key, HILUM_KEY_PASSPHRASE="long and dull")
    assert "encrypted" in made.splitlines()[0]
    assert "signature: unsigned" in hilum("bundle", "verify", str(unsigned))
    hilum("bundle", "sign", str(unsigned), "--key", key, HILUM_KEY_PASSPHRASE="long and dull")
    signer = read_bundle(unsigned).signer
    assert signer is not None
    assert f"signature: signed by key {signer.id}, which nobody was asked to trust" in hilum(
        "bundle", "verify", str(unsigned)
    )
    summary = json.loads(hilum("bundle", "verify", str(unsigned), "--trusted", public, "--json").splitlines()[-1])
    assert (summary["signer"], summary["trusted"]) == (signer.id, True)
    assert f"signature: by key {signer.id}" in hilum("bundle", "show", str(unsigned))


def test_verify_and_predict_refuse_what_no_trusted_key_signed(unsigned: Path, tmp_path: Path) -> None:
    create_key(tmp_path / "site.key")
    public = str(tmp_path / "site.key.pub")
    (tmp_path / "a.dcm").write_bytes(film(1))
    out = tmp_path / "out"
    with pytest.raises(BundleError, match="'signature.json' is missing, but a signature by a trusted key is required"):
        hilum("bundle", "verify", str(unsigned), "--trusted", public)
    with pytest.raises(BundleError, match="'signature.json' is missing"):
        hilum("predict", str(unsigned), str(tmp_path / "a.dcm"), "--out", str(out), HILUM_TRUSTED_KEYS=public)
    assert not out.exists()


def test_predict_answers_with_a_trusted_signature(unsigned: Path, tmp_path: Path, sandbox: object) -> None:
    from hilum.bundle.writing import sign_bundle
    from hilum.keys import read_private_key

    key = create_key(tmp_path / "site.key")
    sign_bundle(unsigned, read_private_key(tmp_path / "site.key"))
    (tmp_path / "a.dcm").write_bytes(film(1))
    done = predict_files(
        unsigned, [tmp_path / "a.dcm"], tmp_path / "out", trusted=[key], sandbox=sandbox, heatmaps=False, threads=1
    )
    assert done.answered == 1
