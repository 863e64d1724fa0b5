"""The log: every change of the published tables in commit order, on disk, shared by many readers.

One process writes (`writer`), any number read (`reader`); `layout` says what the bytes mean and
`doorbell` wakes the readers. The log is the only thing that passes from the engine to the nodes.
"""
