"""Rendered talking faces: a corpus whose geometry, expression and pose are known exactly. Ours."""
