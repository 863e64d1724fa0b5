"""Routing of changes: which subscribers has a row, out of any number of them? Pure.

`Router` keeps conditions by the keys of one of their plans (`shapes.where.plans`): `lookups` are the
indexes over values, elements, prefixes and parts of texts, `spans` that over ranges; `groups` are the
conditions that must be tried when a key of theirs holds, `scans` those that no key is known of.
"""

from shapes.following.router.router import Router

__all__ = ["Router"]
