"""Policies: one small file each, a frozen dataclass of knobs with one or two methods. They know no tensor."""
