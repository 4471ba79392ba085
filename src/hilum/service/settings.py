"""Settings of the service: from arguments, else from ``HILUM_…`` in the environment, else the defaults here."""

import ipaddress
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from hilum.data_keys import Keyring, read_keyring
from hilum.errors import ConfigError, UsageError
from hilum.records.retention import Retention, retention_of
from hilum.service.destinations import Destination, read_destination, read_pacs
from hilum.service.dicom.sender_certificates import read_sender_certificate

MIB = 1024 * 1024
OTHERS = frozenset(("HILUM_API_KEY", "HILUM_CA", "HILUM_DEIDENTIFICATION_KEY", "HILUM_KEY", "HILUM_MONITOR_WEBHOOK"))
"""What other verbs take from the environment."""


class Settings(BaseSettings):
    """What the service needs to know. Defaults are safe for one machine: everything listens on loopback."""

    model_config = SettingsConfigDict(env_prefix="HILUM_", frozen=True, extra="forbid")

    bundle: Path
    """The model: a ``.hilum`` file or a bundle's folder."""
    trusted_keys: Annotated[tuple[Path, ...], NoDecode] = ()
    """Public keys of which one must have signed the bundle; empty when no signature is required. Comma-separated."""
    data: Path = Path("hilum-data")
    """Folder for films and records; made when absent. One service at a time may use it."""
    database_url: str | None = None
    """SQLAlchemy URL of the records; None for SQLite inside ``data``."""
    host: str = "127.0.0.1"
    """Address that REST, page and DICOM listen on."""
    port: int = Field(default=8042, ge=0, le=65535)
    """Port of REST and page; 0 takes a free one."""
    dicom_port: int | None = Field(default=11112, ge=0, le=65535)
    """Port of the DICOM listener; 0 takes a free one, None leaves it out."""
    ae_title: str = Field(default="HILUM", min_length=1, max_length=16)
    """Our AE title."""
    allowed_ae_titles: Annotated[tuple[str, ...], NoDecode] = ()
    """Calling AE titles that may send; empty for any, which is accepted on loopback only. Comma-separated."""
    other_classes: Literal["refuse", "skip"] = "refuse"
    """Storage classes other than CR, DX and SC: refuse the presentation context, or accept, drop and log."""
    tls_certificate: Path | None = None
    """PEM file of the certificate chain for REST and page; together with ``tls_key``."""
    tls_key: Path | None = None
    """PEM file of its private key."""
    dicom_tls: Literal["off", "on", "optional", "required"] = "off"
    """TLS for films in: off; on; on, and a certificate that a sender shows must be good; on, and a sender without one
    is turned away."""
    dicom_certificate: Path | None = None
    """PEM file of the certificate chain for films in, with ``dicom_key``; None: ``tls_certificate``."""
    dicom_key: Path | None = None
    """PEM file of its private key; None: ``tls_key``."""
    dicom_ca: Path | None = None
    """PEM file of the authorities that senders' certificates are checked with."""
    dicom_sender_certificates: Annotated[tuple[str, ...], NoDecode] = ()
    """Certificates that calling AE titles have to show: ``TITLE=sha256:FINGERPRINT``, ``TITLE=cn:NAME`` or
    ``TITLE=san:NAME``, comma-separated. A title that isn't named needs none of its own."""
    unprotected_network: bool = False
    """Accept that REST, page or films in are not encrypted on the way: a proxy does it, or the network is trusted."""
    audit_key: Path | None = None
    """Ed25519 key that signs the audit's heads; None for ``audit.key`` in ``data``, made when absent."""
    audit_heads: Path | None = None
    """File of the audit's signed heads, best on another disk; None for ``audit-heads.jsonl`` in ``data``."""
    key_passphrase: SecretStr | None = None
    """Passphrase of ``audit_key``; None when its file is not encrypted."""
    data_key: SecretStr | None = Field(default=None, repr=False)
    """Data keys that films and identifiers are encrypted with, the active one first. Separated by commas or spaces."""
    data_key_file: Path | None = None
    """File of data keys, one a line, the active one first; instead of ``data_key``."""
    retain_pixels_days: int = Field(default=0, ge=0)
    """Films' files are erased so many days after they came first; 0: never. Answers stay."""
    retain_identifiers_days: int = Field(default=0, ge=0)
    """Who films are of is erased so many days after they came first; 0: never."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names that browsers may call us by, beside ``host`` and loopback's; guards against DNS rebinding."""

    largest_film_mb: int = Field(default=128, ge=1, le=2048)
    """Largest film accepted, MiB."""
    upload_deadline_s: float = Field(default=1800, gt=0)
    """A REST upload must be complete after so long: the largest film over a line of 75 kB/s."""
    connections: int = Field(default=512, ge=16, le=512)
    """Connections to REST and page at once; fewer where the system allows fewer open files."""
    connections_per_address: int | None = Field(default=None, ge=1, le=512)
    """Of these from one address; None for four fifths. Behind a proxy, whose address is that of all, as many."""
    head_deadline_s: float = Field(default=15, gt=0)
    """A TLS handshake and a request's head, and each further head, must be complete after so long."""
    least_upload_rate: float = Field(default=1000, ge=0)
    """Bytes a second that a request's body must bring on average over every 20 s, and a DICOM message over each half of
    ``network_timeout_s``, of which one may be slower."""
    least_free_mb: int = Field(default=256, ge=0)
    """Below this much free disk, MiB, no film is accepted."""
    most_waiting: int = Field(default=2000, ge=1)
    """With so many films unanswered no further one is taken: 429 with Retry-After, C-STORE 0xA700."""
    event_streams: int = Field(default=32, ge=1, le=150)
    """How many may follow the events at once."""
    maximum_associations: int = Field(default=10, ge=1, le=100)
    """DICOM associations at once."""
    associations_per_address: int | None = Field(default=None, ge=1, le=100)
    """Of these from one address; None for four fifths, so that no single host keeps all others out."""
    association_deadline_s: float = Field(default=900, gt=0)
    """An association is closed after so long, whatever it does."""
    network_timeout_s: float = Field(default=30, gt=0)
    """A DICOM peer that is silent for so long, or takes so long over one PDU, is cut off."""
    listener_memory_mb: int = Field(default=2048, ge=256)
    """Memory limit of the listener's process, MiB beside what it starts with: for films that come at the same time."""

    results_to: Annotated[tuple[str, ...], NoDecode] = Field(default=(), repr=False)
    """Where results are sent: ``NAME=dicom://AETITLE@HOST:PORT`` (``dicoms`` with TLS) or ``NAME=https://HOST/PATH``
    for STOW-RS. Comma-separated; empty for nowhere."""
    results_organization: str = Field(default="", max_length=64)
    """Who readers work for: their reviews are then sent as VERIFIED reports. Empty: reviews are not sent."""
    results_ca: Path | None = None
    """PEM file of the authorities that certificates of destinations are checked with; None: the system's."""
    results_certificate: Path | None = None
    """PEM file of our certificate and its key, for destinations that ask for one."""
    results_timeout_s: float = Field(default=30, gt=0)
    """Longest wait for a destination's connection or answer."""
    results_retry_cap_s: float = Field(default=1800, gt=0)
    """Longest wait between two attempts; the first one is 5 s."""
    results_give_up_h: float = Field(default=72, gt=0)
    """A result that could not be sent for so long becomes a dead letter."""

    pacs: str | None = Field(default=None, repr=False)
    """PACS that earlier films are fetched from: ``NAME=dicom://AETITLE@HOST:PORT`` (``dicoms`` with TLS); None: nothing
    is fetched."""
    pacs_retrieve: Literal["auto", "get", "move"] = "auto"
    """How: C-GET where the PACS offers it, else C-MOVE to our listener; or one of the two alone."""
    pacs_timeout_s: float = Field(default=60, gt=0)
    """Longest wait for its connection or answer."""
    pacs_give_up_h: float = Field(default=24, gt=0)
    """A look-up that fails for so long is given up."""
    priors_count: int = Field(default=2, ge=0, le=20)
    """Most earlier studies that are fetched for a film; 0 for none."""
    priors_years: float = Field(default=5, gt=0, le=120)
    """How far back they may lie."""
    priors_analyse: bool = False
    """Have fetched films answered as well; they stay off the worklist, and no results of them are sent."""

    hands: int = Field(default=3, ge=1, le=32)
    """Films in work at once."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of the model's runtime; None: the processors that this process may use."""
    runtime: Literal["onnxruntime", "onnxruntime-cuda", "openvino", "auto"] = "onnxruntime"
    """What runs the model; ``auto`` is what ``hilum doctor`` recorded for this machine."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the model is computed in; bf16 only where ``hilum bundle gate`` let it pass for this bundle and machine."""
    gate_policy: Path | None = None
    """JSON file of this site's gate: fields of `GatePolicy`, those left out at their defaults; None: the bundle's."""
    decode_memory_mb: int = Field(default=1024, ge=256)
    """Memory limit of a decoding process, MiB."""
    decode_wall_s: float = Field(default=30, gt=0)
    """Time limit for decoding one film; generous, since a busy machine must not refuse good films."""
    model_memory_mb: int = Field(default=4096, ge=256)
    """Memory limit of the model's process, MiB beside the loaded model; none on a GPU, whose driver reserves more."""
    model_wall_s: float = Field(default=60, gt=0)
    """Time limit of one batch; a process that takes longer hangs, and is started again."""
    ageing_cap_s: float = Field(default=120, gt=0)
    """A routine film that has waited for so long takes turns with urgent ones."""
    lease_s: float = Field(default=120, gt=0)
    """A film whose worker died is taken up again after so long."""
    max_attempts: int = Field(default=3, ge=1)
    """How often a film is tried before it fails."""
    drain_s: float = Field(default=20, ge=0)
    """On stop, how long the current films and associations may take to finish."""
    keep_fingerprints: bool = False
    """Keep the model's features of each film, without names, to watch for drift: only where consent or ethics allow."""
    waiting_cap_min: float = Field(default=60, gt=0)
    """On the worklist no film waits behind fresher, riskier ones for longer than this."""
    plan_in_force: bool = False
    """A change control plan is in force: models come into production by ``hilum change`` alone. It also is once a model
    was approved under one, whatever this says."""
    read_first: bool = False
    """Readers record their own opinion of a film before its answer is shown to them, on the page and over REST."""
    readings: int = Field(default=1, ge=1, le=2)
    """How many readers a film needs; two who differ are settled by a third."""
    claim_min: float = Field(default=5, gt=0)
    """How long a reader holds a film that is open on the page, minutes; the page renews it."""
    session_idle_min: float = Field(default=15, gt=0)
    """A person's session ends when nobody has done anything at its page for so long; the page warns before."""
    session_hours: float = Field(default=12, gt=0, le=24 * 30)
    """It ends so long after its login, whatever is done."""
    undo_s: float = Field(default=60, ge=0)
    """How long a review can be undone; it is sent on only after that."""

    @field_validator(
        "allowed_ae_titles",
        "allowed_hosts",
        "trusted_keys",
        "results_to",
        "dicom_sender_certificates",
        mode="before",
    )
    @classmethod
    def _from_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_ae_titles")
    @classmethod
    def _titles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [title for title in value if not 1 <= len(title) <= 16 or not title.isascii() or "\\" in title]
        if wrong:
            raise ValueError(f"{wrong} are no AE titles: 1 to 16 ASCII characters without a backslash")
        return value

    @field_validator("dicom_sender_certificates")
    @classmethod
    def _sender_certificates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                read_sender_certificate(text)
            except UsageError as error:
                raise ValueError(str(error).rstrip(".")) from None
        return value

    @field_validator("results_to")
    @classmethod
    def _results_to(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [read_destination(text).name for text in value]
        if len(set(names)) != len(names):
            raise ValueError(f"destinations need names of their own, but these are {names}")
        return value

    @field_validator("pacs")
    @classmethod
    def _pacs(cls, value: str | None) -> str | None:
        if value is not None:
            read_pacs(value)
        return value

    @model_validator(mode="after")
    def _safe(self) -> "Settings":
        try:
            _ = self.retention
        except UsageError as error:
            raise ValueError(str(error).rstrip(".")) from None
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("HILUM_TLS_CERTIFICATE and HILUM_TLS_KEY go together: give both, or neither")
        if self.pacs_retrieve == "move" and self.pacs is not None and self.dicom_port is None:
            raise ValueError("HILUM_PACS_RETRIEVE=move needs the DICOM listener, which C-MOVE sends to")
        self._dicom_tls_makes_sense()
        unsafe = () if self.on_loopback else tuple(self._unsafe_on_the_network())
        if unsafe:
            where = f"host {self.host!r} is reachable from the network and"
            raise ValueError("\n".join(f"{where} {one}" for one in unsafe))
        return self

    def _unsafe_on_the_network(self) -> Iterator[str]:
        if not self.tls and not self.unprotected_network:
            yield (
                "passwords and films would pass in the clear: give HILUM_TLS_CERTIFICATE and HILUM_TLS_KEY, or listen "
                "on 127.0.0.1 behind a proxy with TLS, or accept it with HILUM_UNPROTECTED_NETWORK=1"
            )
        if self.dicom_port is not None and not self.allowed_ae_titles and self.dicom_tls != "required":
            yield (
                "any AE title may send: name the senders in HILUM_ALLOWED_AE_TITLES, or demand certificates with "
                "HILUM_DICOM_TLS=required"
            )
        if self.dicom_port is not None and self.dicom_tls == "off" and not self.unprotected_network:
            yield (
                "films would come in over DICOM in the clear: encrypt them with HILUM_DICOM_TLS=on, or accept it with "
                "HILUM_UNPROTECTED_NETWORK=1"
            )
        if not self.encrypted:
            yield (
                "films and identifiers would lie unencrypted: make a key with hilum keys new-data-key FILE and give it "
                "as HILUM_DATA_KEY_FILE"
            )

    def _dicom_tls_makes_sense(self) -> None:
        if self.dicom_sender_certificates and self.dicom_tls not in ("optional", "required"):
            raise ValueError(
                "HILUM_DICOM_SENDER_CERTIFICATES says which certificates senders show, and they are not asked for any: "
                "set HILUM_DICOM_TLS=required (or optional) and HILUM_DICOM_CA"
            )
        if (self.dicom_certificate is None) != (self.dicom_key is None):
            raise ValueError("HILUM_DICOM_CERTIFICATE and HILUM_DICOM_KEY go together: give both, or neither")
        if self.dicom_tls == "off":
            if self.dicom_certificate is not None or self.dicom_ca is not None:
                raise ValueError("a DICOM certificate is given but not used: set HILUM_DICOM_TLS, or take it away")
            return
        if self.dicom_pair is None:
            raise ValueError(
                f"HILUM_DICOM_TLS={self.dicom_tls} needs a certificate: give HILUM_DICOM_CERTIFICATE and "
                "HILUM_DICOM_KEY, or those of REST, HILUM_TLS_CERTIFICATE and HILUM_TLS_KEY"
            )
        if (self.dicom_ca is not None) != (self.dicom_tls != "on"):
            raise ValueError(
                "HILUM_DICOM_CA names who signs senders' certificates: give it with HILUM_DICOM_TLS=optional or "
                "required, which need it, and leave it out otherwise"
            )

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Where results are sent."""
        return tuple(read_destination(text) for text in self.results_to)

    @property
    def pacs_node(self) -> Destination | None:
        """The PACS that earlier films are fetched from."""
        return read_destination(self.pacs) if self.pacs is not None else None

    @property
    def named_ae_titles(self) -> tuple[str, ...]:
        """Peers' AE titles that these settings name: another one may be anything, a person's name among them."""
        proved = (read_sender_certificate(text).title for text in self.dicom_sender_certificates)
        pacs = (self.pacs_node.ae_title,) if self.pacs_node else ()
        return tuple(dict.fromkeys((*self.allowed_ae_titles, *proved, *pacs)))

    @property
    def on_loopback(self) -> bool:
        """True when only this machine can reach us."""
        return is_loopback(self.host)

    @property
    def tls(self) -> bool:
        """True when REST and page are encrypted on the way."""
        return self.tls_certificate is not None

    @property
    def retention(self) -> Retention:
        """How long what is kept."""
        return retention_of(self.retain_pixels_days, self.retain_identifiers_days)

    @property
    def encrypted(self) -> bool:
        """True when a data key is given."""
        return bool(self.data_key_file or (self.data_key and self.data_key.get_secret_value().strip()))

    @property
    def keyring(self) -> Keyring:
        """The data keys; raises UsageError when they can't be used."""
        return read_keyring(self.data_key.get_secret_value() if self.data_key else None, self.data_key_file)

    @property
    def dicom_pair(self) -> tuple[Path, Path] | None:
        """Certificate and key for films in; None where there are none."""
        if self.dicom_certificate is not None and self.dicom_key is not None:
            return self.dicom_certificate, self.dicom_key
        if self.tls_certificate is not None and self.tls_key is not None:
            return self.tls_certificate, self.tls_key
        return None

    @property
    def audit_key_path(self) -> Path:
        """Key that signs the audit's heads."""
        return self.audit_key or self.data / "audit.key"

    @property
    def audit_heads_path(self) -> Path:
        """File of the audit's signed heads."""
        return self.audit_heads or self.data / "audit-heads.jsonl"

    @property
    def url(self) -> str:
        """Database URL in use."""
        return self.database_url or f"sqlite:///{self.data.resolve() / 'hilum.db'}"


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and loopback addresses."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_settings(*, without_dicom: bool = False, **given: Any) -> Settings:
    """Settings from arguments (None counts as not given) and the environment.

    Args:
        without_dicom: no DICOM listener, whatever port is given.
        given: fields of `Settings`.

    Raises:
        ConfigError: all that is wrong, one sentence each.
    """
    known = {key: value for key, value in given.items() if value is not None}
    try:
        return Settings(**known | {"dicom_port": None} if without_dicom else known)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise ConfigError([one for problem in problems for one in _sentences(dict(problem), known)]) from None


def gpu_environment() -> dict[str, str]:
    """What a GPU's driver and runtime look for in the environment: for the model's process, which gets nothing else."""
    names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LD_LIBRARY_PATH", "NVIDIA_VISIBLE_DEVICES")
    return {name: os.environ[name] for name in names if name in os.environ}


def misspelt() -> dict[str, str]:
    """Names in the environment that look like settings and are none, each with the one that was meant, or nothing."""
    known = {f"HILUM_{name.upper()}" for name in Settings.model_fields} | OTHERS
    names = [name for name in sorted(os.environ) if name.upper().startswith("HILUM_") and name.upper() not in known]
    return {name: next(iter(get_close_matches(name.upper(), known, n=1)), "") for name in names}


def _sentences(problem: dict[str, Any], given: Mapping[str, Any]) -> list[str]:
    where = ".".join(str(part) for part in problem["loc"])
    text = str(problem["msg"]).removeprefix("Value error, ")
    if not where:
        return [f"{line[:1].upper()}{line[1:]}." for line in text.split("\n")]
    if problem["type"] == "missing":
        return [f"Setting {where!r} is missing. Give it, or set HILUM_{where.upper()}."]
    setting = str(problem["loc"][0])
    return [f"Setting {where!r}: {text}." if setting in given else f"HILUM_{setting.upper()}: {text}."]
