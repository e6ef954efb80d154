"""The service's configuration: one frozen dataclass, read from environment variables.

Each field names its variable, its type and its default in each profile. Start-up checks this table,
``flask config show`` prints it, and the reference documents it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any

from portfolio import __version__
from portfolio.redaction import redact
from portfolio.setting_types import (
    DATABASE_NAME,
    FLAG,
    KEYS,
    ORIGINS,
    TEXT,
    URI,
    SettingType,
    choice,
    integer,
    number,
)

SERVICE = "globeco-portfolio-service"
VERSION = __version__

PROFILES = ("development", "staging", "production")
_PROFILE_VARIABLES = ("PORTFOLIO_SERVICE_ENV", "ENVIRONMENT", "ENV")
_NAMESPACE_VARIABLES = ("MY_NAMESPACE", "KUBERNETES_NAMESPACE")
_PROFILE = choice(*PROFILES)


class ConfigurationError(ValueError):
    """One or more environment variables are not valid.

    The message names each variable, its value without secrets, and what is allowed.
    """


def _variable(name: str, help: str, type: SettingType, default: Any) -> Any:
    """Declare the setting that the environment variable ``name`` gives.

    ``help`` is its meaning, with its unit, for the reference and ``flask config show``. ``default``
    is one value for all profiles, or a list of those of development, staging and production.
    """
    by_profile = default if isinstance(default, list) else [default] * len(PROFILES)
    metadata = {"variable": name, "type": type, "help": help}
    return field(metadata=metadata | {"defaults": dict(zip(PROFILES, by_profile, strict=True))})


@dataclass(frozen=True)
class Settings:
    """The settings; CONTRACT.md section 7 lists their variables, defaults and profiles."""

    profile: str
    mongodb_uri: str = _variable(
        "MONGODB_URI",
        "standalone, replica set or sharded cluster",
        URI,
        "mongodb://globeco-portfolio-service-mongodb:27017",
    )
    mongodb_db: str = _variable("MONGODB_DB", "database name", DATABASE_NAME, "portfolio")
    port: int = _variable("PORT", "port that Gunicorn binds", integer(1, 65535), 8000)
    web_concurrency: int = _variable("WEB_CONCURRENCY", "worker processes", integer(1, 64), 2)
    log_level: str = _variable(
        "LOG_LEVEL",
        "lowest level that is logged",
        choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        ["DEBUG", "INFO", "WARNING"],
    )
    log_format: str = _variable(
        "LOG_FORMAT",
        "JSON, readable text, or auto: text on a terminal, else JSON",
        choice("json", "text", "auto"),
        "json",
    )
    max_pool_size: int = _variable(
        "MAX_POOL_SIZE", "maximum MongoDB connections of a worker", integer(1, 1000), [50, 30, 20]
    )
    min_pool_size: int = _variable(
        "MIN_POOL_SIZE",
        "MongoDB connections that a worker keeps open",
        integer(0, 1000),
        [10, 8, 5],
    )
    connection_timeout_ms: int = _variable(
        "CONNECTION_TIMEOUT", "ms to connect to MongoDB", integer(1, 600_000), 30_000
    )
    request_timeout_ms: int = _variable(
        "REQUEST_TIMEOUT_MS", "deadline of a request in ms", integer(100, 120_000), 5_000
    )
    otel_sdk_disabled: bool = _variable(
        "OTEL_SDK_DISABLED", "disable OpenTelemetry; it is not loaded", FLAG, False
    )
    enable_tracing: bool = _variable("ENABLE_TRACING", "spans", FLAG, [True, True, False])
    enable_database_tracing: bool = _variable(
        "ENABLE_DATABASE_TRACING", "a span for each database command", FLAG, [True, False, False]
    )
    enable_metrics: bool = _variable("ENABLE_METRICS", "metrics", FLAG, True)
    traces_exporter: str = _variable(
        "OTEL_TRACES_EXPORTER", "none for no spans; all else means otlp", TEXT, "otlp"
    )
    metrics_exporter: str = _variable(
        "OTEL_METRICS_EXPORTER", "none for no metrics; all else means otlp", TEXT, "otlp"
    )
    trace_sample_rate: float = _variable(
        "METRICS_SAMPLE_RATE",
        "fraction of traces sampled, unless the caller has decided",
        number(0, 1),
        [1.0, 0.5, 0.1],
    )
    metrics_interval_s: float = _variable(
        "OTEL_METRICS_EXPORT_INTERVAL_SECONDS",
        "seconds between metrics exports",
        number(0.1, 3600),
        [10.0, 30.0, 60.0],
    )
    metrics_timeout_s: float = _variable(
        "OTEL_METRICS_EXPORT_TIMEOUT_SECONDS",
        "timeout of a metrics export in seconds",
        number(0.1, 3600),
        30.0,
    )
    enable_request_logging: bool = _variable(
        "ENABLE_REQUEST_LOGGING", "a log line for each request", FLAG, [True, True, False]
    )
    log_sampling_rate: float = _variable(
        "LOG_SAMPLING_RATE",
        "fraction of requests logged; errors are always logged",
        number(0, 1),
        [1.0, 0.5, 0.1],
    )
    enable_validation_caching: bool = _variable(
        "ENABLE_VALIDATION_CACHING", "the validation cache", FLAG, True
    )
    validation_cache_size: int = _variable(
        "VALIDATION_CACHE_SIZE", "entries in each worker", integer(1, 1_000_000), [1000, 1000, 2000]
    )
    enable_circuit_breaker: bool = _variable(
        "ENABLE_CIRCUIT_BREAKER", "the circuit breakers", FLAG, True
    )
    breaker_failures: int = _variable(
        "CIRCUIT_BREAKER_FAILURES", "consecutive failures that open a breaker", integer(1, 1000), 5
    )
    breaker_reset_s: float = _variable(
        "CIRCUIT_BREAKER_RESET_SECONDS",
        "seconds until an open breaker lets trial calls through",
        number(0.1, 3600),
        30.0,
    )
    breaker_successes: int = _variable(
        "CIRCUIT_BREAKER_SUCCESSES",
        "successful trial calls that close a breaker; as many run at once",
        integer(1, 1000),
        3,
    )
    max_requests_in_flight: int = _variable(
        "MAX_REQUESTS_UNDER_WAY",
        "maximum API requests in flight in a worker; fewer when the CPU is overloaded",
        integer(1, 100_000),
        100,
    )
    drain_s: float = _variable(
        "DRAIN_SECONDS",
        "seconds from SIGTERM until idle connections are closed",
        number(0, 20),
        10.0,
    )
    cors_origins: tuple[str, ...] = _variable(
        "CORS_ORIGINS", "origins that browsers can call from; * allows any", ORIGINS, ("*",)
    )
    api_keys: tuple[str, ...] = _variable(
        "API_KEYS", "accepted API keys; every /api/ call needs one", KEYS, ()
    )
    cursor_secret: str = _variable(
        "CURSOR_SECRET",
        "key that signs cursors, the same in all pods; by default the name of the database",
        TEXT,
        "",
    )
    enable_docs: bool = _variable(
        "ENABLE_DOCS", "the pages /docs, /redoc and /status, and /openapi.json", FLAG, True
    )
    runtime_dir: str = _variable(
        "PORTFOLIO_RUNTIME_DIR",
        "folder for files shared by the workers of one instance",
        TEXT,
        # Of this user alone: nobody else can write to it.
        os.path.join(os.environ.get("TMPDIR", "/tmp"), f"{SERVICE}-{os.geteuid()}"),  # noqa: S108
    )

    @property
    def signals(self) -> list[str]:
        """OpenTelemetry's signals that are exported: ``metrics``, ``traces``."""
        switches = {
            "metrics": self.enable_metrics and self.metrics_exporter.lower() != "none",
            "traces": self.enable_tracing and self.traces_exporter.lower() != "none",
        }
        return [signal for signal, on in switches.items() if on and not self.otel_sdk_disabled]

    @property
    def traces_commands(self) -> bool:
        """Whether database commands have spans."""
        return "traces" in self.signals and self.enable_database_tracing

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings; an empty variable counts as absent.

        Raises:
            ConfigurationError: naming every variable that does not parse.
        """
        problems: list[str] = []

        def read(variable: str, type: SettingType, default: Any) -> Any:
            text = environ.get(variable, "").strip()
            try:
                return type.parse(text) if text else default
            except ValueError:
                shown = redact(variable, text)
                # Of what is shown: the fault may quote it.
                fault = type.find_fault(shown)
                problems.append(
                    f"{variable}={shown!r} is not valid: it must be {type.allowed}"
                    + (f" ({fault})" if fault else "")
                )
                return default

        named = (read(variable, _PROFILE, None) for variable in _PROFILE_VARIABLES)
        profile = next(filter(None, named), None) or _profile_of_namespace(environ)
        values = {
            declared.name: read(
                declared.metadata["variable"],
                declared.metadata["type"],
                declared.metadata["defaults"][profile],
            )
            for declared in settings_fields()
        }
        if not problems and values["min_pool_size"] > values["max_pool_size"]:
            if environ.get("MIN_POOL_SIZE", "").strip():
                problems.append(
                    f"MIN_POOL_SIZE={values['min_pool_size']} is not valid: "
                    f"it must be at most MAX_POOL_SIZE, {values['max_pool_size']}"
                )
            values["min_pool_size"] = values["max_pool_size"]
        if problems:
            raise ConfigurationError("\n".join(problems))
        return cls(profile=profile, **values)


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings for an entry point: an error ends it with a sentence, not a traceback."""
    try:
        return Settings.from_environment(environ)
    except ConfigurationError as error:
        raise SystemExit(f"Error: {error}") from None


@cache
def server_settings() -> Settings:
    """Return the settings that gunicorn.conf.py and wsgi.py share."""
    return load_settings()


def settings_fields() -> list[Field[Any]]:
    """The declared variables, in the order of the reference; the profile is not one of them."""
    return [declared for declared in fields(Settings) if declared.metadata]


def _profile_of_namespace(environ: Mapping[str, str]) -> str:
    namespace = " ".join(environ.get(variable, "") for variable in _NAMESPACE_VARIABLES).lower()
    if "prod" in namespace:
        return "production"
    return "staging" if "stag" in namespace else "development"
