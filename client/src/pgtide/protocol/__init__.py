"""The protocol, written once for both faces: nothing in here waits for anything."""
