"""Secrets taken out of what is logged or printed."""

from __future__ import annotations

import re

# Variables, OpenTelemetry's among them, whose whole value is a secret.
_SECRET_VARIABLE = re.compile("HEADERS|KEY|PASSWORD|SECRET|TOKEN")
_SCHEME = re.compile("[^:@/?]*://")
# The value ends at what looks like the next option: an unescaped value may hold an &.
_SECRET_OPTION = re.compile(
    r"([?&;]\w*(?:pass|secret|token|properties)\w*=).*?(?=[&;]\w+=|$)", re.IGNORECASE | re.DOTALL
)
# A colon that no port follows: the @ and the host are missing.
_PASSWORD_ALONE = re.compile(r"\A([^:[/?]*:)(?![0-9]+(?:[,/?]|$)).*", re.DOTALL)


def redact(variable: str, text: str) -> str:
    """Return ``text``, the value of ``variable``, without its secrets.

    Keys and headers become asterisks. A URI loses its password and its secret options.
    """
    if _SECRET_VARIABLE.search(variable):
        return text and "***"
    # The endpoint of a collector may have no scheme.
    has_credentials = "@" in text and ("://" in text or variable.endswith("_ENDPOINT"))
    return redact_uri(text) if has_credentials or variable.endswith("_URI") else text


def redact_uri(uri: str) -> str:
    """Return ``uri`` without its password and its secret options, however malformed it is.

    Text that is not a URI becomes asterisks.

    >>> redact_uri("mongodb://app:hunter2@db:27017/?tlsCertificateKeyFilePassword=secret")
    'mongodb://app:***@db:27017/?tlsCertificateKeyFilePassword=***'
    """
    found = _SCHEME.match(uri)
    scheme = found[0] if found else ""
    rest = _SECRET_OPTION.sub(r"\1***", uri[len(scheme) :])
    # The last @ ends the credentials: a password that was not escaped may hold others.
    credentials, at, hosts = rest.rpartition("@")
    if not at:
        return scheme + _PASSWORD_ALONE.sub(r"\1***", rest) if scheme else "***"
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{user}:***@{hosts}" if colon else f"{scheme}***@{hosts}"


def redact_in(text: str, uri: str) -> str:
    """Return ``text`` without the password of ``uri``, whole or in part.

    gRPC's messages quote the address of the collector, up to the first / of its password.
    """
    credentials = uri.partition("://")[2].rpartition("@")[0]
    password = credentials.partition(":")[2] or credentials
    for part in filter(None, re.split("[:/?#@]", password)):
        text = text.replace(part, "***")
    return text
