"""Imported first, spares this process seconds: jsonschema compiles a grammar for IRIs, which nothing here checks."""

import sys

sys.modules["rfc3987_syntax"] = None  # jsonschema does without what cannot be imported
