"""Configuration: the variables, defaults and profiles of section 7 of the contract."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from portfolio.config import ConfigurationError, Settings
from portfolio.redaction import redact, redact_uri


def read(**variables: str) -> Settings:
    return Settings.from_environment(variables)


def refusal(**variables: str) -> str:
    with pytest.raises(ConfigurationError) as error:
        read(**variables)
    return str(error.value)


@pytest.mark.parametrize(
    ("variables", "profile"),
    [
        ({}, "development"),
        ({"ENV": "staging"}, "staging"),
        ({"ENVIRONMENT": "production", "ENV": "staging"}, "production"),
        ({"PORTFOLIO_SERVICE_ENV": "staging", "ENVIRONMENT": "production"}, "staging"),
        ({"PORTFOLIO_SERVICE_ENV": "", "ENVIRONMENT": "Production"}, "production"),
        ({"MY_NAMESPACE": "globeco-prod"}, "production"),
        ({"KUBERNETES_NAMESPACE": "staging"}, "staging"),
        ({"MY_NAMESPACE": "globeco"}, "development"),
        ({"ENV": "development", "MY_NAMESPACE": "globeco-prod"}, "development"),
    ],
)
def test_the_profile_comes_from_the_first_variable_that_is_set(
    variables: dict[str, str], profile: str
) -> None:
    assert read(**variables).profile == profile


@pytest.mark.parametrize(
    ("field", "development", "staging", "production"),
    [
        ("mongodb_uri", *["mongodb://globeco-portfolio-service-mongodb:27017"] * 3),
        ("mongodb_db", *["portfolio"] * 3),
        ("port", 8000, 8000, 8000),
        ("web_concurrency", 2, 2, 2),
        ("log_level", "DEBUG", "INFO", "WARNING"),
        ("max_pool_size", 50, 30, 20),
        ("min_pool_size", 10, 8, 5),
        ("connection_timeout_ms", 30_000, 30_000, 30_000),
        ("enable_tracing", True, True, False),
        ("enable_database_tracing", True, False, False),
        ("enable_metrics", True, True, True),
        ("trace_sample_rate", 1.0, 0.5, 0.1),
        ("metrics_interval_s", 10, 30, 60),
        ("metrics_timeout_s", 30, 30, 30),
        ("validation_cache_size", 1000, 1000, 2000),
        ("enable_validation_caching", True, True, True),
        ("enable_circuit_breaker", True, True, True),
        ("cors_origins", ("*",), ("*",), ("*",)),
        ("api_keys", (), (), ()),
    ],
)
def test_each_profile_has_its_defaults(
    field: str, development: Any, staging: Any, production: Any
) -> None:
    found = [
        getattr(read(ENV=profile), field) for profile in ("development", "staging", "production")
    ]
    assert found == [development, staging, production]


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("MONGODB_URI", "mongodb://a,b/?replicaSet=rs", "mongodb_uri", None),
        ("MONGODB_URI", "mongodb://app:hun%2Fter2@[::1]:27017", "mongodb_uri", None),
        ("MONGODB_URI", "mongodb://h/?minPoolSize=200&maxPoolSize=300", "mongodb_uri", None),
        ("MONGODB_URI", "mongomock://localhost", "mongodb_uri", None),
        ("MONGODB_DB", "other", "mongodb_db", None),
        ("PORT", "8080", "port", 8080),
        ("WEB_CONCURRENCY", "4", "web_concurrency", 4),
        ("LOG_LEVEL", "warning", "log_level", "WARNING"),
        ("MAX_POOL_SIZE", "100", "max_pool_size", 100),
        ("MIN_POOL_SIZE", "0", "min_pool_size", 0),
        ("CONNECTION_TIMEOUT", "500", "connection_timeout_ms", 500),
        ("ENABLE_TRACING", "false", "enable_tracing", False),
        ("ENABLE_DATABASE_TRACING", "0", "enable_database_tracing", False),
        ("ENABLE_METRICS", "off", "enable_metrics", False),
        ("METRICS_SAMPLE_RATE", "0.25", "trace_sample_rate", 0.25),
        ("OTEL_METRICS_EXPORT_INTERVAL_SECONDS", "5", "metrics_interval_s", 5),
        ("OTEL_METRICS_EXPORT_TIMEOUT_SECONDS", "7", "metrics_timeout_s", 7),
        ("ENABLE_REQUEST_LOGGING", "no", "enable_request_logging", False),
        ("LOG_SAMPLING_RATE", "0.01", "log_sampling_rate", 0.01),
        ("VALIDATION_CACHE_SIZE", "10", "validation_cache_size", 10),
        ("ENABLE_VALIDATION_CACHING", "False", "enable_validation_caching", False),
        ("ENABLE_CIRCUIT_BREAKER", "FALSE", "enable_circuit_breaker", False),
        ("CORS_ORIGINS", "*", "cors_origins", ("*",)),
        ("CORS_ORIGINS", "https://a, https://b", "cors_origins", ("https://a", "https://b")),
        ("CORS_ORIGINS", "http://localhost:3000", "cors_origins", ("http://localhost:3000",)),
        ("CORS_ORIGINS", "http://[::1]:3000", "cors_origins", ("http://[::1]:3000",)),
        ("API_KEYS", "one,two", "api_keys", ("one", "two")),
    ],
)
def test_each_variable_sets_its_value(variable: str, text: str, field: str, value: Any) -> None:
    assert getattr(read(**{variable: text}), field) == (text if value is None else value)


def test_users_of_one_machine_have_runtime_folders_of_their_own() -> None:
    program = (
        "from portfolio.config import Settings; print(Settings.from_environment({}).runtime_dir)"
    )
    pretend = "import os; os.geteuid = lambda: 4711"
    mine, theirs = (
        subprocess.check_output([sys.executable, "-c", f"{first}; {program}"], text=True)
        for first in ("pass", pretend)
    )
    assert mine != theirs


def test_an_empty_variable_counts_as_absent() -> None:
    assert read(PORT="", LOG_LEVEL=" ", API_KEYS=" ") == read()


@pytest.mark.parametrize("text", [",", " , "])
def test_api_keys_without_a_key_do_not_leave_the_api_open(text: str) -> None:
    assert "API_KEYS" in refusal(API_KEYS=text)


def test_an_srv_name_is_not_looked_up_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[Any] = []

    def look_up(*name: Any, **_: Any) -> None:
        looked_up.append(name)

    monkeypatch.setattr("dns.resolver.resolve", look_up)
    monkeypatch.setattr("socket.getaddrinfo", look_up)
    uri = "mongodb+srv://app:hunter2@db.example.net/?retryWrites=true&w=majority&appName=app"
    assert read(MONGODB_URI=uri).mongodb_uri == uri
    assert not looked_up


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORTFOLIO_SERVICE_ENV", "test"),
        ("ENVIRONMENT", "local"),
        ("ENV", "qa"),
        ("MONGODB_URI", "http://localhost"),
        ("MONGODB_URI", "mongodb://localhost:99999"),
        ("MONGODB_URI", "mongodb://localhost/?readPreference=banana"),
        ("MONGODB_URI", "mongodb://localhost/?noSuchOption=1"),
        ("MONGODB_URI", "mongodb://localhost/?tlsCAFile=/no/such/file"),
        ("MONGODB_URI", "mongodb://localhost/?datetime_conversion=banana"),
        ("MONGODB_URI", "mongodb://a,b/?directConnection=true"),
        ("MONGODB_URI", "mongodb+srv://db.example.net:27017"),
        ("MONGODB_URI", "mongodb+srv://db.example.net/?readPreference=banana"),
        ("MONGODB_URI", "mongodb://***@localhost"),  # a user without a password
        ("MONGODB_URI", "mongodb://localhost/?authMechanism=SCRAM-SHA-256"),
        ("MONGODB_URI", "mongodb://localhost/?tls=true&tlsCAFile=/dev/null"),
        ("MONGODB_URI", "mongodb://localhost/?w=0&journal=true"),
        ("MONGODB_DB", "a/b"),
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WEB_CONCURRENCY", "0"),
        ("WEB_CONCURRENCY", "two"),
        ("LOG_LEVEL", "LOUD"),
        ("MAX_POOL_SIZE", "0"),
        ("MIN_POOL_SIZE", "-1"),
        ("CONNECTION_TIMEOUT", "30s"),
        ("ENABLE_TRACING", "perhaps"),
        ("METRICS_SAMPLE_RATE", "1.5"),
        ("METRICS_SAMPLE_RATE", "nan"),
        ("OTEL_METRICS_EXPORT_INTERVAL_SECONDS", "0"),
        ("LOG_SAMPLING_RATE", "-0.1"),
        ("VALIDATION_CACHE_SIZE", "many"),
        ("CORS_ORIGINS", ","),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "a.example"),
        ("CORS_ORIGINS", "https://a.example,https://*.b.example"),
        ("CORS_ORIGINS", "https://a.example/"),
        ("CORS_ORIGINS", "https://a.example/page"),
        ("CORS_ORIGINS", "https://a.example?x"),
        ("CORS_ORIGINS", "https://a.example:99999"),
        ("CORS_ORIGINS", ".*"),
    ],
)
def test_a_value_that_does_not_parse_is_named_with_what_is_allowed(
    variable: str, text: str
) -> None:
    message = refusal(**{variable: text})
    assert variable in message
    assert text in message
    assert "must be" in message


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("mongodb://app:hunter2@h/?retryWrite=true", "Unknown option: retrywrite. Did you mean"),
        ("mongodb://h/?tlsCAFile=/no.pem", "No such file or directory: '/no.pem'"),
        ("mongodb://h:99999", "Port must be"),
        ("http://h", "must begin with 'mongodb://'"),
        ("mongo://app:hunter2@db:27017/?authSource=admin", "mongo://app:***@db:27017"),
    ],
)
def test_the_fault_of_a_uri_is_named(uri: str, fault: str) -> None:
    message = refusal(MONGODB_URI=uri)
    assert fault in message
    assert "hunter2" not in message


def test_every_wrong_variable_is_named_at_once() -> None:
    message = refusal(PORT="x", WEB_CONCURRENCY="y", LOG_LEVEL="z")
    assert [name in message for name in ("PORT", "WEB_CONCURRENCY", "LOG_LEVEL")] == [True] * 3


def test_a_minimum_above_the_maximum_is_refused_where_it_was_asked_for() -> None:
    message = refusal(MIN_POOL_SIZE="30", MAX_POOL_SIZE="20")
    assert "MIN_POOL_SIZE" in message
    assert "MAX_POOL_SIZE" in message


def test_a_default_minimum_follows_a_small_maximum() -> None:
    settings = read(MAX_POOL_SIZE="3")
    assert (settings.min_pool_size, settings.max_pool_size) == (3, 3)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://app:hun/ter2@localhost:27501",
        "mongodb://app:hun?ter2@localhost:27501",
        "mongodb://app:hun@ter2@localhost:27501",
        "mongodb://app:hun:ter2@localhost:27501",
        "mongodb://app:hun%ter2@localhost:27501",
        "mongodb://app:hun://ter2@localhost:27501",
        "mongodb://app:hun?pass=ter2@localhost:27501",
        "mongodb:app:hun://ter2@localhost:27501",
        "mongodb://app:hun/ter2",
        "mongodb://app:hunter2",
        "mongodb://:hunter2@localhost",
        "mongodb://localhost/hun ter2@localhost",
        "mongodb://localhost/?tlsCertificateKeyFilePassword=hun&ter2",
        "mongodb://localhost/?authMechanismProperties=AWS_SESSION_TOKEN:hun=ter2@x",
        "hunter2",
    ],
)
def test_a_refused_uri_does_not_give_its_password_away(uri: str) -> None:
    message = refusal(MONGODB_URI=uri)
    assert "MONGODB_URI=" in message
    assert "hun" not in message
    assert "ter2" not in message


@pytest.mark.parametrize(
    ("uri", "redacted"),
    [
        ("mongodb://app:hunter2@db:27017", "mongodb://app:***@db:27017"),
        ("mongodb://app:hunter@2@db", "mongodb://app:***@db"),
        ("mongodb://db:27017/portfolio", "mongodb://db:27017/portfolio"),
        ("mongodb://[::1]:27017,b:27018/?w=1", "mongodb://[::1]:27017,b:27018/?w=1"),
        (
            "mongodb://app:hunter2@h:1/?tlsCertificateKeyFilePassword=KEYPASS&w=1",
            "mongodb://app:***@h:1/?tlsCertificateKeyFilePassword=***&w=1",
        ),
        (
            "mongodb://h/?w=1;AUTHMECHANISMPROPERTIES=AWS_SESSION_TOKEN:a@b;appName=app",
            "mongodb://h/?w=1;AUTHMECHANISMPROPERTIES=***;appName=app",
        ),
        (
            "mongodb://h/?proxyUsername=app&proxyPassword=hunter2",
            "mongodb://h/?proxyUsername=app&proxyPassword=***",
        ),
        ("http://token@collector:4318/v1/traces", "http://***@collector:4318/v1/traces"),
        ("app:hunter2@collector:4317", "app:***@collector:4317"),
        ("a-key", "***"),
    ],
)
def test_a_uri_is_redacted(uri: str, redacted: str) -> None:
    assert redact_uri(uri) == redacted


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("API_KEYS", "first://key@1,second", "***"),
        ("API_KEYS", "", ""),
        ("CURSOR_SECRET", "http://a@b", "***"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer x", "***"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "tenant=a://b@c", "***"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:secret@c:4318", "http://otel:***@c:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "otel:secret@c:4318", "otel:***@c:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "10.0.0.1:4317", "10.0.0.1:4317"),
        ("OTEL_RESOURCE_ATTRIBUTES", "owner=me@a.example", "owner=me@a.example"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=http://u:secret@h", "a=http://u:***@h"),
        ("CORS_ORIGINS", "https://a,https://b", "https://a,https://b"),
        ("LOG_LEVEL", "DEBUG", "DEBUG"),
    ],
)
def test_a_value_is_redacted(variable: str, text: str, expected: str) -> None:
    assert redact(variable, text) == expected
