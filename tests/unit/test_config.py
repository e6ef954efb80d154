"""Configuration: the variables, defaults and profiles of section 7 of the contract."""

from __future__ import annotations

from typing import Any

import pytest

from portfolio.config import ConfigurationError, Settings, mask


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
        (
            "mongodb_uri",
            *["mongodb://globeco-portfolio-service-mongodb:27017"] * 3,
        ),
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
        ("CORS_ORIGINS", "https://a, https://b", "cors_origins", ("https://a", "https://b")),
        ("API_KEYS", "one,two", "api_keys", ("one", "two")),
    ],
)
def test_each_variable_sets_its_value(variable: str, text: str, field: str, value: Any) -> None:
    assert getattr(read(**{variable: text}), field) == (text if value is None else value)


def test_an_empty_variable_counts_as_absent() -> None:
    assert read(PORT="", LOG_LEVEL=" ") == read()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORTFOLIO_SERVICE_ENV", "test"),
        ("ENVIRONMENT", "local"),
        ("ENV", "qa"),
        ("MONGODB_URI", "http://localhost"),
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
    ],
)
def test_a_value_that_does_not_parse_is_named_with_what_is_allowed(
    variable: str, text: str
) -> None:
    message = refusal(**{variable: text})
    assert variable in message
    assert text in message
    assert "must be" in message


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


def test_the_password_of_a_wrong_uri_is_not_shown() -> None:
    message = refusal(MONGODB_URI="mongo://app:hunter2@db:27017/?authSource=admin")
    assert "hunter2" not in message
    assert "mongo://app:***@db:27017" in message


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("mongodb://app:hunter2@db:27017", "mongodb://app:***@db:27017"),
        ("mongodb://app:hunter@2@db", "mongodb://app:***@db"),
        ("mongodb://db:27017/portfolio", "mongodb://db:27017/portfolio"),
        ("a-key", "***"),
    ],
)
def test_a_secret_is_masked(secret: str, shown: str) -> None:
    assert mask(secret) == shown
