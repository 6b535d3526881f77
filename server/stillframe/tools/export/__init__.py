"""Export: a recording as what people's own tools open, one module a format. Knows files; no model and no torch."""
