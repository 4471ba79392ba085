"""Prove deploy/: build the image from its Containerfile, then run what compose.yaml says and send a film through it.

Run as root: .venv/bin/python deploy/prove.py [--work FOLDER]   (a few minutes)
Needs buildah, debootstrap, bubblewrap, iproute2, postgresql, orthanc, prometheus and dcmtk of the distribution.

The image is built on an empty Debian that debootstrap makes, and run with the settings, user, read-only root and
temporary folder of compose.yaml, without capabilities. The other services are the distribution's own packages with the
files of deploy/, since images of them may not be at hand. All run in one network namespace that has nothing but
loopback, where the names of compose.yaml are addresses of it. The film and the bundle are small synthetic ones.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from hilum.data_keys import new_data_key

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BASE, IMAGE = "localhost/hilum-base", "localhost/hilum-proof"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
STORE = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
PASSWORD = "proof" * 4


def told(sentence: str) -> None:
    """One line of the story."""
    print(sentence, flush=True)


def require(true: bool, otherwise: str) -> None:
    """End when something isn't as it must be."""
    if not true:
        sys.exit(f"It isn't proved: {otherwise}.")


def run(*command: str | Path, given: str | None = None, **changed: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | changed,
    )
    if done.returncode:
        sys.exit(
            f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout


def until(true: Callable[[], bool], what: str, within_s: float = 120) -> None:
    """Wait for something; end with a sentence when it doesn't come."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            sys.exit(f"Not within {within_s:g} s: {what}.")
        time.sleep(0.2)
    told(f"  {what}")


def mirror() -> str:
    """Where this machine has the distribution from."""
    targets = run("apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)").splitlines()
    return next(line.split()[2] for line in targets if line.startswith("bookworm main "))


def build(work: Path) -> tuple[str, dict[str, Any]]:
    """Image on an empty Debian: the folder that it is mounted at, and its configuration."""
    if subprocess.run(
        ["buildah", "inspect", BASE], env=os.environ | STORE, capture_output=True, check=False
    ).returncode:
        told("an empty Debian")
        run("debootstrap", "--variant=minbase", "bookworm", work / "base", mirror())
        container = run("buildah", "from", "scratch", **STORE).strip()
        run("buildah", "copy", "-q", container, work / "base", "/", **STORE)
        # This machine may sit behind a proxy with an authority of its own.
        run("buildah", "copy", "-q", container, CERTIFICATES, "/usr/local/share/ca-certificates/site.crt", **STORE)
        run("buildah", "commit", "-q", container, BASE, **STORE)
    told("the image, from deploy/Containerfile")
    ignored = ("--ignorefile", str(HERE / "Containerfile.dockerignore"))
    built = ("buildah", "bud", "-q", "--layers", *ignored, "-f", str(HERE / "Containerfile"))
    run(*built, "--build-arg", f"BASE={BASE}", "-t", IMAGE, str(ROOT), **STORE)
    container = run("buildah", "from", IMAGE, **STORE).strip()
    config = json.loads(run("buildah", "inspect", IMAGE, **STORE))["OCIv1"]["config"]
    return run("buildah", "mount", container, **STORE).strip(), config


class Container:
    """Commands in the image as compose.yaml has them: its environment, no capability, a root that can't be written."""

    def __init__(
        self, image: str, config: dict[str, Any], service: dict[str, Any], data: Path, secrets: dict[str, str]
    ) -> None:
        uid, gid = service["user"].split(":")
        require(service["read_only"] and service["cap_drop"] == ["ALL"], "compose.yaml takes no rights away")
        require(config["User"] == service["user"], "the image's user isn't that of compose.yaml")
        self.entry, self.starts = config["Entrypoint"], config["Cmd"]
        in_env = re.compile(r"\$\{(\w+)[^}]*\}")
        filled = {k: in_env.sub(lambda found: secrets[found[1]], v) for k, v in service["environment"].items()}
        environment = dict(line.split("=", 1) for line in config["Env"]) | filled
        self.box = ["bwrap", "--ro-bind", image, "/", "--proc", "/proc", "--dev", "/dev", "--die-with-parent"]
        self.box += [part for folder in service["tmpfs"] for part in ("--tmpfs", folder)]
        self.box += ["--bind", str(data), "/data", "--ro-bind", str(data.parent / "models"), "/models"]
        self.box += ["--bind", str(data.parent / "backup"), "/backup"]
        self.box += ["--ro-bind", "/etc/hosts", "/etc/hosts", "--unshare-user", "--unshare-pid", "--unshare-ipc"]
        self.box += ["--uid", uid, "--gid", gid, "--cap-drop", "ALL", "--clearenv"]
        self.box += [part for pair in environment.items() for part in ("--setenv", *pair)]

    def hilum(self, *arguments: str, given: str | None = None) -> str:
        return run(*self.box, *self.entry, *arguments, given=given)

    def refuses(self, *command: str) -> bool:
        return subprocess.run([*self.box, *command], capture_output=True, check=False).returncode != 0

    @contextmanager
    def serving(self, log: Path) -> Iterator[None]:
        """The service with the image's own command, until SIGTERM; it must end well."""
        with (
            open(log, "ab") as out,
            subprocess.Popen([*self.box, *self.entry, *self.starts], stdout=out, stderr=out) as box,
        ):
            try:
                until(lambda: asked("http://hilum:8042/health/ready").get("ready", False), "hilum is ready")
                yield
            finally:
                for child in Path(f"/proc/{box.pid}/task/{box.pid}/children").read_text().split():
                    _terminate(int(child))
                box.wait(60)
        if box.returncode:
            sys.exit(f"hilum ended with {box.returncode}; its log is {log}.")
        told("  hilum ended well")


def _terminate(init: int) -> None:
    """SIGTERM to the service behind bubblewrap's own first process."""
    for child in Path(f"/proc/{init}/task/{init}/children").read_text().split():
        os.kill(int(child), 15)


def asked(url: str) -> Any:
    """JSON from an address; an empty object while nobody answers."""
    with (
        suppress(OSError, urllib.error.URLError, json.JSONDecodeError),
        urllib.request.urlopen(url, timeout=10) as reply,
    ):
        return json.loads(reply.read())
    return {}


@contextmanager
def background(*command: str, log: Path, **options: Any) -> Iterator[None]:
    """A program beside the story, until its block ends."""
    with open(log, "ab") as out, subprocess.Popen(command, stdout=out, stderr=out, **options) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def postgres(folder: Path) -> Iterator[None]:
    """The database as compose.yaml's image makes it: user and database hilum, checksums, passwords hashed.

    Args:
        folder: its volume; nothing is there yet.
    """
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    folder.mkdir()
    (folder / "password").write_text(PASSWORD)
    shutil.chown(folder, "postgres"), shutil.chown(folder / "password", "postgres")
    become = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
    made = ("--username=hilum", f"--pwfile={folder / 'password'}", "--data-checksums", "--auth-host=scram-sha-256")
    run(*become, programs / "initdb", *made, "-D", folder / "data")
    options = ("-D", str(folder / "data"), "-k", str(folder), "-h", "127.0.0.1")
    with background(*become, str(programs / "postgres"), *options, log=folder.with_suffix(".log")):
        ready = [str(programs / "pg_isready"), "-q", "-h", "postgres", "-U", "hilum"]
        until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL is ready")
        run(programs / "createdb", "-h", str(folder), "-U", "hilum", "hilum")
        yield


@contextmanager
def orthanc(work: Path) -> Iterator[None]:
    """The PACS with our two files, over folders of its own."""
    for folder in (Path("/var/lib/orthanc/db"), Path("/etc/orthanc")):
        covered = work / "orthanc" / folder.name
        covered.mkdir(parents=True)
        folder.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", covered, folder)
    for name in ("orthanc.json", "route.lua"):
        shutil.copy(HERE / name, Path("/etc/orthanc") / name)
    program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    with background(program, "/etc/orthanc/orthanc.json", log=work / "orthanc.log"):
        until(lambda: bool(asked("http://orthanc:8043/system")), "Orthanc answers")
        yield


@contextmanager
def prometheus(work: Path, key: str) -> Iterator[None]:
    """The watch with our two files and the key."""
    folder = work / "prometheus"
    folder.mkdir()
    for name in ("prometheus.yml", "alerts.yml"):
        shutil.copy(HERE / name, folder / name)
    (folder / "metrics.key").write_text(key)
    options = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with background("prometheus", *options, log=work / "prometheus.log"):
        yield


def modalities() -> list[str]:
    """Of everything that the PACS holds."""
    held = asked("http://orthanc:8043/instances?expand")
    return sorted(asked(f"http://orthanc:8043/instances/{one['ID']}/simplified-tags")["Modality"] for one in held or ())


def scraped() -> bool:
    """Whether the watch could read the metrics."""
    found = asked("http://prometheus:9090/api/v1/query?query=up%7Bjob%3D%22hilum%22%7D")
    return [one["value"][1] for one in found.get("data", {}).get("result", [])] == ["1"]


def story(image: str, config: dict[str, Any], work: Path) -> None:
    """A fresh install, a film in, its results back, a stop and a start, a backup and a restore, as the page says."""
    sys.path.insert(0, str(ROOT / "tests"))
    from bundle.small import small_bundle
    from inference.films import film

    for folder in ("data", "restored", "models", "backup"):
        (work / folder).mkdir()
    small_bundle(work / "models" / "chest.hilum")
    (work / "film.dcm").write_bytes(film())
    compose = yaml.safe_load((HERE / "compose.yaml").read_text())["services"]
    secrets = {"POSTGRES_PASSWORD": PASSWORD, "HILUM_DATA_KEY": new_data_key().text}
    container = Container(image, config, compose["hilum"], work / "data", secrets)
    require(container.refuses("python", "-c", "import torch"), "torch is in the image")
    require(container.refuses("python", "-c", "open('/opt/hilum/new', 'w')"), "the image's root can be written")
    told("  no torch, nothing outside /data, /backup and /tmp can be written")
    with ExitStack() as stack:
        database = stack.enter_context(ExitStack())
        database.enter_context(postgres(work / "postgres"))
        container.hilum("users", "add", "ada", "--role", "admin", "--password-stdin", given="a long first password\n")
        container.hilum("users", "add", "prometheus", "--role", "model-manager", "--no-password")
        key = container.hilum("users", "add-key", "prometheus", "--scope", "metrics:read", "--label", "watch", "--json")
        container.hilum("serve", "/models/chest.hilum", "--check")
        told("  users are made, the check is well")
        stack.enter_context(orthanc(work))
        stack.enter_context(prometheus(work, json.loads(key)["key"]))
        with container.serving(work / "hilum.log"):
            run("storescu", "-aet", "CT", "-aec", "ORTHANC", "orthanc", "4242", work / "film.dcm")
            until(lambda: len(modalities()) == 3, "the PACS has the film and two results")
            told(f"  the PACS holds {', '.join(modalities())}")
            until(scraped, "Prometheus reads the metrics")
        before = modalities()
        with container.serving(work / "hilum.log"):
            container.hilum("audit", "verify")
            told("  the audit is whole")
            require(modalities() == before, "a second result came after the new start")
            told(f"  {container.hilum('backup', '/backup/today').splitlines()[0]}")
        database.close()
        again = Container(image, config, compose["hilum"], work / "restored", secrets)
        stack.enter_context(postgres(work / "postgres-restored"))
        told(f"  {again.hilum('restore', '/backup/today').splitlines()[0]}")
        with again.serving(work / "hilum-restored.log"):
            again.hilum("audit", "verify")
            told("  the audit of the restored records is whole")
            require(modalities() == before, "a second result came after the restore")


def inside(work: Path) -> None:
    """In namespaces of our own: loopback alone, and compose.yaml's names for it."""
    given = json.loads((work / "image.json").read_text())
    run("ip", "link", "set", "lo", "up")
    (work / "hosts").write_text("127.0.0.1 localhost hilum postgres orthanc prometheus\n")
    run("mount", "--bind", work / "hosts", "/etc/hosts")
    story(given["mounted"], given["config"], work)


def main() -> None:
    """Build, then tell the story in namespaces of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="an empty folder that is kept, logs and all")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside)
        return
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        work.chmod(work.stat().st_mode | 0o011)  # the database's user comes by here to its own folder
        mounted, config = build(work)
        (work / "image.json").write_text(json.dumps({"mounted": mounted, "config": config}))
        again = [sys.executable, str(Path(__file__).resolve()), "--inside", str(work.resolve())]
        told("the story of deploy/compose.yaml")
        ended = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", *again], check=False)
        if ended.returncode:
            sys.exit(ended.returncode)
    told("deploy/ is proved")


if __name__ == "__main__":
    main()
