"""The content of /openapi.json and /problems."""
