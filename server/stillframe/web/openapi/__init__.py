"""What /openapi.json, /v1/models and /problems say of the wire."""
