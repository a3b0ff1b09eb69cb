"""The one settings object of the server, read from ``WARA_*`` environment variables."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MEGABYTE = 1024 * 1024
WILDCARD_HOSTS = ("0.0.0.0", "::")


class Settings(BaseSettings):
    """How the server runs; every field is the environment variable ``WARA_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="WARA_", env_ignore_empty=True, extra="ignore", frozen=True)

    data_dir: Path = Field(default=Path("data"), description="Folder that holds the database, data sets and models.")
    host: str = Field(default="127.0.0.1", description="Address to listen on; loopback unless set.")
    port: int = Field(default=7860, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    allowed_hosts: str = Field(default="", description="Comma list of further host names that requests may carry.")
    published_on_loopback: bool = Field(
        default=False,
        description="In a container: its port is published on the host's loopback only, so no accounts are needed.",
    )
    admin_name: str = Field(default="admin", description="Name of the first account, with WARA_ADMIN_PASSWORD.")
    admin_password: SecretStr | None = Field(
        default=None, description="Makes the first account at the first start, in containers."
    )
    tls_cert: Path | None = Field(default=None, description="PEM file of the certificate, with its chain: https.")
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key.")
    root_path: str = Field(
        default="", pattern=r"^(/[A-Za-z0-9._~-]+)*$", description="Path at which a proxy shows the server: /studio."
    )
    trusted_proxies: str = Field(
        default="", description="Comma list of addresses or networks of proxies whose forwarded headers are believed."
    )
    max_upload_mb: int = Field(default=50_000, ge=1, description="Largest data set that may be uploaded, in MiB.")
    min_free_mb: int = Field(default=500, ge=0, description="Disk space that uploads and jobs must leave free, in MiB.")
    backbones: str = Field(default="", description="Comma list of local weights as timm_name:/path/to/file.")
    offline: bool = Field(default=True, description="Never ask the hub for weights.")
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda or cuda:N."
    )
    front_end: bool = Field(default=True, description="Serve the pages at / beside the API.")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    log_format: str = Field(default="text", pattern="^(text|json)$", description="json: one object a line.")
    warm_models: int = Field(default=2, ge=1, description="Models kept in memory between predictions.")
    cancel_grace_seconds: float = Field(
        default=4.0, gt=0, le=8, description="Time a cancelled job has to end by itself."
    )
    pause_grace_seconds: float = Field(
        default=60.0, gt=0, description="Time a paused job has to finish its step and keep what it learned."
    )
    stop_grace_seconds: float = Field(
        default=6.0, gt=0, description="The same, when jobs end with the server."
    )
    jobs_outlive_server: bool = Field(
        default=True, description="Whether jobs go on while the server is stopped; in a container they cannot."
    )
    silent_seconds: float = Field(
        default=600.0, ge=10, description="Time without a sign of life after which a job's process is replaced."
    )
    worker_attempts: int = Field(
        default=3, ge=1, description="How often in a row a job is started without getting any further."
    )
    running_per_person: int = Field(default=0, ge=0, description="Trainings of one person at once; 0 is no limit.")
    waiting_per_person: int = Field(default=100, ge=1, description="Trainings of one person in the queue.")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        # Jobs run in another working folder, so a relative path must be settled here.
        return value.expanduser().resolve()

    @field_validator("backbones")
    @classmethod
    def _name_and_file(cls, value: str) -> str:
        for entry in filter(None, (part.strip() for part in value.split(","))):
            name, _, path = entry.partition(":")
            if not name or not path:
                raise ValueError(f"WARA_BACKBONES holds {entry!r}; write timm_name:/path/to/file, separated by commas")
        return value

    @property
    def backbone_files(self) -> list[tuple[str, Path]]:
        """The weights named in ``WARA_BACKBONES`` as (timm architecture, absolute path)."""
        entries = filter(None, (part.strip() for part in self.backbones.split(",")))
        pairs = (entry.partition(":") for entry in entries)
        return [(name, Path(path).expanduser().resolve()) for name, _, path in pairs]

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        for name in filter(None, map(str.strip, value.split(","))):
            try:
                ipaddress.ip_network(name)
            except ValueError as error:
                raise ValueError(f"'{name}' is no address or network; write e.g. 10.0.0.5 or 10.0.0.0/24") from error
        return value

    @model_validator(mode="after")
    def _both_of_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("WARA_TLS_CERT and WARA_TLS_KEY go together: set both or neither")
        return self

    @property
    def proxies(self) -> frozenset[str]:
        """Addresses and networks of ``WARA_TRUSTED_PROXIES``."""
        return frozenset(filter(None, map(str.strip, self.trusted_proxies.split(","))))

    @property
    def reached_by_one(self) -> bool:
        """Whether only the person at this machine reaches the server: then it needs no accounts."""
        return (self.on_loopback or self.published_on_loopback) and not self.proxies

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def extra_hosts(self) -> frozenset[str]:
        """Host names of ``WARA_ALLOWED_HOSTS`` in lower case."""
        return frozenset(filter(None, (name.strip().lower() for name in self.allowed_hosts.split(","))))

    def base_url(self, port: int | None = None) -> str:
        """Return the address a browser on this machine opens; a wildcard host becomes loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        scheme = "http" if self.tls_cert is None else "https"
        return f"{scheme}://{host}:{self.port if port is None else port}"
