"""Database URLs as users have them, made into what libpq understands."""

import re

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

KNOWN = {option.keyword.decode() for option in Conninfo.get_defaults()}
SSLMODES = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
ASYNCPG_SSL = {"true": "require", "on": "require", "1": "require", "false": "disable", "off": "disable", "0": "disable"}
CONNECT_TIMEOUT, NEON_CONNECT_TIMEOUT = 5, 10  # seconds; a suspended Neon database takes a moment to wake


def normalise(url: str) -> str:
    """The URL without what libpq refuses.

    `postgres://` and SQLAlchemy's `postgresql+driver://` become `postgresql://`, asyncpg's `ssl=` becomes `sslmode=`, parameters
    of other clients (`pgbouncer=true`, `schema=…`) are dropped, a limit for connecting is added. All else stays as it is, byte by
    byte: for libpq a `+` is a plus, for Python's URL functions a space.

    Raises:
        ValueError: not usable; the text fits behind the variable's name and holds no part of the URL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise ValueError("must be a URL that begins with postgresql://")
    # libpq ends the user and password at the first @, if that comes before the first slash.
    credentials = re.match(r"[^/@]*@", rest)
    start = credentials.end() if credentials else 0
    location, _, query = rest[start:].partition("?")
    parameters = [pair.partition("=")[::2] for pair in query.split("&")]
    renamed = [("sslmode", ASYNCPG_SSL.get(value, value)) if name == "ssl" else (name, value) for name, value in parameters]
    known = "&".join(f"{name}={value}" for name, value in renamed if name in KNOWN)
    try:
        options = conninfo_to_dict(f"postgresql://{rest[:start]}{location}?{known}")
    except ProgrammingError:  # its text quotes the URL, password and all
        raise ValueError("is not a valid PostgreSQL URL; special characters of the password must be percent-encoded") from None
    host, port = str(options.get("host", "")), str(options.get("port", ""))
    if "@" in location or not re.fullmatch(r"[\d,]*", port):
        raise ValueError(
            "has a host, port or database that cannot be; special characters of the password must be percent-encoded"
        )
    if options.get("sslmode", "prefer") not in SSLMODES:
        raise ValueError(f"has an unknown sslmode, expected one of {', '.join(sorted(SSLMODES))}")
    if "connect_timeout" not in options:
        known += f"&connect_timeout={NEON_CONNECT_TIMEOUT if host.endswith('.neon.tech') else CONNECT_TIMEOUT}"
    return f"postgresql://{rest[:start]}{location}?{known.lstrip('&')}"
