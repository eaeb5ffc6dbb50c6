"""Converts database URLs to the form that libpq accepts."""

import re

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

SSLMODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
ASYNCPG_SSL = {"true": "require", "on": "require", "1": "require", "false": "disable", "off": "disable", "0": "disable"}
CONNECT_TIMEOUT, NEON_CONNECT_TIMEOUT = 5, 10  # seconds; Neon needs longer to wake up a suspended database


def normalise(url: str) -> str:
    """Return the URL in libpq's form, with a limit for connecting.

    `postgres://` and SQLAlchemy's `postgresql+driver://` become `postgresql://`, and asyncpg's `ssl=` becomes `sslmode=`.
    Parameters that libpq does not know (`pgbouncer=true`, `schema=…`) are dropped. The rest is copied as it is:
    Python's URL functions would turn a `+` into a space, but libpq would not.

    Raises:
        ValueError: the URL is not usable. The message holds no part of the URL; the caller puts the variable's name before it.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower().partition("+")[0] not in ("postgresql", "postgres"):
        raise ValueError("must be a URL that begins with postgresql://")
    # As in libpq, an @ before the first slash ends the user and the password. So a ? before it belongs to the password.
    credentials = rest[: rest.partition("/")[0].find("@") + 1]
    location, _, query = rest.removeprefix(credentials).partition("?")
    base, known = f"postgresql://{credentials}{location}?", []
    for parameter in query.split("&"):
        name, _, value = parameter.partition("=")
        if name == "ssl":
            name, value = "sslmode", ASYNCPG_SSL.get(value, value)
        if _is_known(name):
            known.append(f"{name}={value}")
    try:
        options = conninfo_to_dict(base + "&".join(known))
    except ProgrammingError:  # its text quotes the URL with the password
        raise ValueError("is not a valid PostgreSQL URL; special characters of the password must be percent-encoded") from None
    host, ports = str(options.get("host", "")), filter(None, str(options.get("port", "")).split(","))
    if "@" in location or not all(re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536 for port in ports):
        raise ValueError("has an invalid host, port or database; special characters of the password must be percent-encoded")
    if options.get("sslmode", "prefer") not in SSLMODES:
        raise ValueError(f"has an unknown sslmode, expected one of {', '.join(sorted(SSLMODES))}")
    if "connect_timeout" not in options:
        known.append(f"connect_timeout={NEON_CONNECT_TIMEOUT if host.endswith('.neon.tech') else CONNECT_TIMEOUT}")
    return base + "&".join(known)


def _is_known(parameter: str) -> bool:
    """Return whether libpq knows the parameter."""
    try:
        make_conninfo(**{parameter: "1"})
    except ProgrammingError:
        return False
    return True


def host_and_port(url: str) -> dict[str, object]:
    """Return the host and the port of a normalised URL, for messages and the log."""
    options = conninfo_to_dict(url)
    return {"host": options.get("host") or "local socket", "port": options.get("port") or 5432}
