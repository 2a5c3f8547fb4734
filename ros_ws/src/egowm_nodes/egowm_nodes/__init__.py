"""The egowm nodes: lifecycle shells (``*_node.py``) over plain functions and classes (every other module)."""
