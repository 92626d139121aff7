"""The KV heap: pages, size classes, block tables, prefix tree, objects and roots, laws. Knows no tensor.

To read it: groups, moves, space, pages, tables; nodes and tree; objects and graph. Then ``Heap``, one class in five
files of which each inherits from the one before: state, holdings, keeping, lowering, heap. Then who takes back and who
decides: reclaim, retention, generations; cycles, trace, collector; holders, ranking, holes, evacuation, compactor. Then
the tiers below: keys, names, host, disk, tiers. The laws last.
"""
