"""What a scope opens of the streams: the path that it names, and with a slash at its end all below."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shapes.access.grant import Grant
from shapes.access.scopes import Scope
from shapes.http.streams.stream_access import STREAMS, resources_of

# Few letters, so that paths look alike: cases, forms of one character, dots, escapes.
segments = st.text("aAb.:*%é\u0301/ ", min_size=1, max_size=3).filter(lambda one: "/" not in one)
paths = st.lists(segments, min_size=1, max_size=4).map("/".join)


@given(paths, paths, st.sampled_from(("", "/", "//", "*", "/*", "/..")))
def test_a_scope_opens_its_path_or_what_is_below(named: str, path: str, end: str) -> None:
    scope = Scope.parse(f"read:{STREAMS}:{named}{end}")
    grant = Grant(environment="default", scopes=(scope,))
    below = end == "/" and path.startswith(f"{named}/")
    assert grant.allows_any("read", resources_of(path)) == (below or path == f"{named}{end}")
    assert not grant.allows_any("write", resources_of(path))
