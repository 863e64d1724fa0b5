"""Forms, columns and constants of dates, times and intervals, for random expressions."""

from __future__ import annotations

from typing import Final

COLUMNS_SQL: Final = """
    da date, dc date, ta timestamp, tb timestamp, za timestamptz, zb timestamptz, ha time, hb time,
    ka timetz, va interval, vb interval, ni int, nf float8
"""

ZONES: Final = (
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "EST"),
    *("Europe/Dublin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia", "europe/LONDON"),
)
_DATES: Final = (
    *(
        "2024-02-29",
        "2026-01-31",
        "2025-12-31",
        "1999-03-01",
        "2000-01-01",
        "infinity",
        "-infinity",
    ),
    *("0044-03-15 BC", "0001-01-01", "12026-05-06", "4713-01-01 BC", "2020-12-28", "1900-02-28"),
    *("0001-12-31 BC", "5874897-12-31", "2027-01-03"),
)
_MOMENTS: Final = (
    *("2024-02-29 10:20:30.5", "2026-01-31 23:59:59.999999", "2025-12-31 00:00:00", "infinity"),
    *("-infinity", "0044-03-15 01:02:03 BC", "12026-05-06 07:08:09", "2000-01-01 00:00:00"),
    *("2026-03-29 02:30:00", "2026-10-25 02:30:00.5", "2026-03-08 07:00:00", "2500-07-01 00:00:00"),
    *("2026-11-01 01:59:59.999999", "2087-05-11 02:30", "1700-01-01", "2499-12-31 23:30:00"),
    *("2011-12-30 12:00:00", "2026-10-04 02:15:00", "123456-03-26 02:00:00", "1847-12-01 00:01"),
    *("1999-12-31 12:00:00.000001", "2001-03-31 04:05:06", "294276-12-31 23:59:59", "1969-12-31"),
)
_SPANS: Final = (
    *("P1M", "P30D", "PT24H", "P1D", "PT0S", "P-1D", "P1DT-24H", "P1Y2M3DT4H5M6.7S", "PT-0.5S"),
    *("P-1M2DT-3H", "P12M", "P100Y", "PT36H30M", "P45D", "P-13M-40DT-50H", "P1M-1D", "PT0.000001S"),
    *("P178000000Y", "P2147483647D", "PT2560000000H"),
)

POOLS: Final[dict[str, tuple[str, ...]]] = {
    "da": _DATES,
    "dc": _DATES,
    "ta": _MOMENTS,
    "tb": _MOMENTS,
    "za": _MOMENTS,
    "zb": _MOMENTS,
    "ha": ("00:00:00", "10:20:30", "23:59:59.999999", "24:00:00", "12:00:00.5"),
    "hb": ("00:00:00", "10:20:30", "23:59:59.999999", "24:00:00", "12:00:00.5"),
    "ka": ("10:20:30+02", "08:20:30+00", "24:00:00-05:30", "00:00:00.5+15:59:59", "12:00-08"),
    "va": _SPANS,
    "vb": _SPANS,
    "ni": ("0", "1", "-1", "30", "-31", "365", "100000", "2147483647", "-2147483648"),
    "nf": ("0", "1", "2.5", "-1.5", "0.1", "1e-7", "1e10", "NaN", "Infinity", "0.3333333333333333"),
}

_FIELDS: Final = """
    ({T} = {T}) ; ({T} < {T}) ; ({T} >= {T!}) ; ({T} is distinct from {T}) ; ({T} in ({T!}, {T!}))
    ; ({T} between {T!} and {T}) ; ({T} = any (array[{T!}, {T}]))
"""


def _each(forms: str, *types: str) -> list[str]:
    texts = [one.strip() for one in forms.split(";")]
    return [one.replace("T", type_) for type_ in types for one in texts]


def _quoted(*words: str) -> tuple[str, ...]:
    return tuple(f"'{word}'" for word in words)


FORMS: Final[dict[str, list[str]]] = {
    "date": [
        "({date} + {int4})",
        "({int4} + {date})",
        "({date} - {int4})",
        "({timestamp})::date",
        "({timestamptz})::date",
        "coalesce({date}, {date})",
        "greatest({date}, {date!})",
    ],
    "timestamp": [
        "({date} + {time})",
        "({time} + {date})",
        "({date} + {interval})",
        "({interval} + {date})",
        "({date} - {interval})",
        "({timestamp} + {interval})",
        "({interval} + {timestamp})",
        "({timestamp} - {interval})",
        "({timestamp} + {interval!})",
        "({date})::timestamp",
        "({timestamptz})::timestamp",
        "date_trunc({truncation!}, {timestamp})",
        "({timestamptz} at time zone {zone!})",
        "timezone({zone!}, {timestamptz})",
        "({timestamptz} at time zone {shift})",
        "least({timestamp}, {timestamp})",
    ],
    "timestamptz": [
        "({timestamptz} + {interval})",
        "({interval!} + {timestamptz})",
        "({timestamptz} - {interval})",
        "({timestamp})::timestamptz",
        "({date})::timestamptz",
        "({date} + {timetz})",
        "({timestamp} at time zone {zone!})",
        "({date}::timestamp at time zone {zone!})",
        "timezone({shift}, {timestamp})",
        "date_trunc({truncation!}, {timestamptz})",
    ],
    "time": [
        "({time} + {interval})",
        "({interval} + {time})",
        "({time} - {interval})",
        "({timestamp})::time",
        "({interval})::time",
        "({timetz})::time",
    ],
    "timetz": ["({timetz} + {interval})", "({timetz} - {interval})", "({time})::timetz"],
    "interval": [
        "({interval} + {interval})",
        "({interval} - {interval})",
        "(- {interval})",
        "({interval} * {float8})",
        "({float8} * {interval})",
        "({interval} / {float8})",
        "({interval} * {small!})",
        "({interval} / {small!})",
        "({timestamp} - {timestamp})",
        "({timestamptz} - {timestamptz})",
        "({time} - {time})",
        "({time})::interval",
        "justify_days({interval})",
        "justify_hours({interval})",
        "justify_interval({interval})",
        "date_trunc({span!}, {interval})",
    ],
    "int4": ["({date} - {date})", "({date} - {date!})"],
    "numeric": [
        "extract({unit!} from {timestamp})",
        "extract({unit!} from {timestamptz})",
        "extract({unit!} from {date})",
        "extract({clock!} from {time})",
        "extract({clock!} from {timetz})",
        "extract({part!} from {interval})",
        "extract({part!} from {interval})",
        "extract({part!} from {interval})",
        "extract({part!} from {interval})",
    ],
    "float8": ["date_part({whole!}, {timestamp})", "date_part('month', {interval})"],
    "text": ["({date})::text", "({timestamptz})::text", "({timestamp})::text", "({timetz})::text"],
    "bool": [
        *_each(_FIELDS, "date", "timestamp", "timestamptz", "time", "timetz", "interval"),
        "({date} < {timestamp})",
        "({timestamptz} >= {date})",
        "({timestamp} = {timestamptz})",
        "({time} < {interval})",
        "({time} = {timetz})",
        "({date} + {days!} > {timestamp!})",
        "({timestamp} - {timestamp} > {interval!})",
        "({timestamptz} - {timestamp} < {interval!})",
        "({date} - {timestamp} < {interval!})",
        "({time} + '1 hour' < {time})",
        "({timestamp} + '1 mon' > {timestamp})",
        "({interval} + '1 day' = {interval})",
        "({bool} and {bool})",
        "({bool} or not {bool})",
    ],
}

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "date": ("da", "dc"),
    "timestamp": ("ta", "tb"),
    "timestamptz": ("za", "zb"),
    "time": ("ha", "hb"),
    "timetz": ("ka",),
    "interval": ("va", "vb"),
    "int4": ("ni", "id"),
    "float8": ("nf",),
    "bool": ("b",),
    "shift": ("va",),
}

CONSTANTS: Final[dict[str, tuple[str, ...]]] = {
    "date": ("'2024-02-29'::date", "date '2026-01-01'", "'infinity'::date"),
    "timestamp": (
        "'2026-01-31 10:00'::timestamp",
        "timestamp '2000-02-29'",
        "'-infinity'::timestamp",
    ),
    "timestamptz": ("'2026-01-31T10:00:00Z'::timestamptz", "'2024-02-29 12:00+02'::timestamptz"),
    "time": ("'10:20:30'::time", "time '24:00'", "'00:00'::time"),
    "timetz": ("'10:20:30+02'::timetz", "'09:20:30+01'::timetz", "'10:00Z'::timetz"),
    "interval": tuple("'" + one + "'::interval" for one in (*_SPANS[:17], "1 mon", "36:30:00.5")),
    "int4": ("0", "1", "-1", "30"),
    "numeric": ("1.5",),
    "text": ("''",),
    "days": ("0", "1", "-30", "2::int2"),
    "float8": ("2.5::float8", "0.1::float8", "-3::float8"),
    "small": ("0", "1", "3", "-2", "7", "0.5"),
    "unit": _quoted(
        *("year", "month", "day", "hour", "minute", "second", "milliseconds", "microseconds"),
        *("dow", "isodow", "doy", "week", "isoyear", "quarter", "decade", "century", "Year"),
        *("millennium", "epoch"),
    ),
    "clock": _quoted("hour", "minute", "second", "milliseconds", "microseconds", "epoch"),
    "part": _quoted(
        *("year", "month", "day", "hour", "minute", "second", "milliseconds", "microseconds"),
        *("decade", "century", "millennium", "epoch"),
    ),
    "whole": _quoted("year", "month", "day", "hour", "dow", "microseconds"),
    "truncation": _quoted(
        *("microseconds", "milliseconds", "second", "minute", "hour", "day", "week", "month"),
        *("quarter", "year", "decade", "century", "millennium", "Day"),
    ),
    "zone": _quoted(*ZONES, "UTC", "utc", "Z", "GMT", "+02", "-05:30", "+15:59:59", "-8"),
    "shift": ("interval '2:30'", "'-10:00:00.7'::interval", "interval '30:00'"),
    "span": _quoted("second", "minute", "hour", "day", "month", "quarter", "year", "decade"),
    "bool": ("true", "false"),
}
