"""From the text of a where clause to tokens, by the lexical rules of Postgres."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from shapes.where.errors import WhereError, WhereSyntaxError

MAX_BYTES: Final = 65_536

WORD: Final = "word"
NAME: Final = "name"
STRING: Final = "string"
NUMBER: Final = "number"
PARAMETER: Final = "parameter"
OPERATOR: Final = "operator"
MARK: Final = "mark"
END: Final = "end"


class Token(NamedTuple):
    """One token. `value` is the folded name of a word, the content of a name or a string, and the
    text itself of everything else; `start` and `end` are character indexes."""

    kind: str
    value: str
    start: int
    end: int


_LETTER = r"A-Za-z_\u0080-\U0010ffff"
_PATTERN = re.compile(
    rf"""
      (?P<space>[ \t\n\r\f\v]+ | --[^\n\r]*)
    | (?P<block>/\*)
    | (?P<estring>[eE]'(?:[^'\\]|''|\\.)*')
    | (?P<bits>[bBxX]')
    | (?P<unicode>[uU]&['"])
    | (?P<word>[{_LETTER}][{_LETTER}0-9$]*)
    | (?P<name>"(?:[^"]|"")*")
    | (?P<string>'(?:[^']|'')*')
    | (?P<number>(?:[0-9]+(?:\.(?!\.)[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<parameter>\$[0-9]+)
    | (?P<mark>::|[()\[\],;.:])
    | (?P<operator>[+\-*/<>=~!@\#%^&|`?]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_FOLD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_JUNK = re.compile(rf"[{_LETTER}0-9$]+")
_SPECIAL = frozenset("~!@#%^&|`?")
_LONGEST_OPERATOR: Final = 63
_LONGEST_PARAMETER: Final = len("$2147483647")


def tokenize(text: str) -> list[Token]:
    """All tokens of `text`, the last of kind `END`. Raises WhereError."""
    _check(text)
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _PATTERN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _unreadable(text, position)
        kind, position = match.lastgroup, match.end()
        if kind == "space":
            continue
        if kind == "block":
            position = _skip_comment(text, match.start())
            continue
        token = _token(kind, match.group(), match.start(), position)
        tokens.append(token)
        position = token.end
        if kind in ("number", "parameter"):
            _refuse_junk(text, token)
    tokens.append(Token(END, "", position, position))
    return tokens


def near(text: str, token: Token) -> WhereSyntaxError:
    """The error for a token that does not belong where it is."""
    if token.kind == END:
        return WhereSyntaxError("syntax error at end of input", token.start)
    part = text[token.start : token.end]
    return WhereSyntaxError(f'syntax error at or near "{part}"', token.start)


def _check(text: str) -> None:
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise WhereError(f"WHERE clause is bigger than maximum size of {MAX_BYTES} bytes")
    check_characters(text)


def check_characters(text: str) -> None:
    """Refuse what no text in Postgres can contain. Raises WhereError."""
    if "\0" in text:
        raise WhereError("the null character is not allowed")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WhereError("the text is not valid Unicode") from None


def _token(kind: str, raw: str, start: int, end: int) -> Token:
    if kind == "word":
        return Token(WORD, raw.translate(_FOLD), start, end)
    if kind == "name":
        if raw == '""':
            raise WhereSyntaxError('zero-length delimited identifier at or near """"', start)
        return Token(NAME, raw[1:-1].replace('""', '"'), start, end)
    if kind == "string":
        return Token(STRING, raw[1:-1].replace("''", "'"), start, end)
    if kind == "estring":
        return Token(STRING, _unescape(raw[2:-1], start), start, end)
    if kind == "bits":
        raise WhereError("BitString values are not supported", start)
    if kind == "unicode":
        raise WhereSyntaxError(f'syntax error at or near "{raw}"', start)
    if kind == "parameter" and len(raw) > _LONGEST_PARAMETER:
        raise WhereSyntaxError(f'parameter number too large at or near "{raw}"', start)
    if kind == "operator":
        raw = _trim_operator(raw, start)
        return Token(OPERATOR, "<>" if raw == "!=" else raw, start, start + len(raw))
    return Token(kind, raw, start, end)


def _trim_operator(raw: str, start: int) -> str:
    """Cut an operator before a comment, and before a sign unless it has special characters."""
    for comment in ("--", "/*"):
        before, found, _ = raw.partition(comment)
        raw = before if found else raw
    if len(raw) > _LONGEST_OPERATOR:
        # As one operator it is too long for Postgres, as many they are nested too deep.
        raise WhereSyntaxError("operator too long", start)
    if len(raw) > 1 and raw[-1] in "+-" and not any(one in _SPECIAL for one in raw):
        raw = raw.rstrip("+-") or raw[0]
    return raw


def _refuse_junk(text: str, token: Token) -> None:
    junk = _JUNK.match(text, token.end)
    if junk is not None:
        what = "numeric literal" if token.kind == NUMBER else "parameter"
        part = text[token.start : junk.end()]
        raise WhereSyntaxError(f'trailing junk after {what} at or near "{part}"', token.start)


def _unreadable(text: str, position: int) -> WhereSyntaxError:
    rest = text[position:]
    if rest[0] == "'" or rest[:2] in ("e'", "E'"):
        return WhereSyntaxError(f'unterminated quoted string at or near "{rest}"', position)
    if rest[0] == '"':
        return WhereSyntaxError(f'unterminated quoted identifier at or near "{rest}"', position)
    return WhereSyntaxError(f'syntax error at or near "{rest[0]}"', position)


def _skip_comment(text: str, start: int) -> int:
    depth, position = 1, start + 2
    while depth:
        opening, closing = text.find("/*", position), text.find("*/", position)
        if closing < 0:
            part = text[start:]
            raise WhereSyntaxError(f'unterminated /* comment at or near "{part}"', start)
        nested = 0 <= opening < closing
        depth += 1 if nested else -1
        position = (opening if nested else closing) + 2
    return position


_ESCAPE = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|''", re.DOTALL
)
_CONTROL = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _unescape(body: str, start: int) -> str:
    """The content of an E'…' string. Octal and hexadecimal escapes are bytes, not characters."""
    parts = bytearray()
    position = 0
    for match in _ESCAPE.finditer(body):
        parts += body[position : match.start()].encode()
        parts += _escaped(match, start)
        position = match.end()
    parts += body[position:].encode()
    try:
        value = parts.decode("utf-8", "surrogatepass")
        # Two halves of a surrogate pair, each written as an escape, are one character.
        value = value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise WhereError('invalid byte sequence for encoding "UTF8"', start) from None
    if "\0" in value:
        raise WhereError('invalid byte sequence for encoding "UTF8": 0x00', start)
    return value


def _escaped(match: re.Match[str], start: int) -> bytes:
    octal, byte, short, long, other = match.groups()
    if octal or byte:
        return bytes((int(octal, 8) & 0xFF if octal else int(byte, 16),))
    if short or long:
        code = int(short or long, 16)
        if code > 0x10FFFF:
            raise WhereSyntaxError("invalid Unicode escape value", start)
        return chr(code).encode("utf-8", "surrogatepass")
    if other in ("u", "U"):
        raise WhereSyntaxError("invalid Unicode escape", start)
    return _CONTROL.get(other, other).encode() if other else b"'"
