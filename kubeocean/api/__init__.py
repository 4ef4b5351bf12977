"""Our API: the two CRDs as pydantic models, and every name we put on the wire."""
