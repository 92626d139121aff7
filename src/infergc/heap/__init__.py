"""The KV heap: pages, size classes, block tables, prefix tree, objects and roots, laws. Knows no tensor."""
