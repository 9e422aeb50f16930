"""Forgetting what was learnt of the store, so that memory does not grow with the bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from objfs.vfs.nodes import NEVER, DirectoryNode, FileNode
from objfs.vfs.tree import is_ours

if TYPE_CHECKING:
    from objfs.vfs.nodes import Node
    from objfs.vfs.tree import Tree

NODES_MAX = 100_000  # about 100 MB of inodes
TURN = 2000  # entries looked at between two turns of the event loop


async def prune(tree: Tree, *, older_than: float, nodes_max: int = NODES_MAX) -> int:
    """Drop entries that nobody refers to, as told before `older_than` (trio time), also while it is running.

    Returns:
        How many inodes were freed.
    """
    if len(tree.nodes) <= nodes_max:
        return 0
    freed = looked_at = 0
    for node in list(tree.nodes.values()):
        if not isinstance(node, DirectoryNode) or node.handles or node.local or node.listed_at > older_than:
            continue
        for child in list(node.children.values()):
            looked_at += 1
            if looked_at % TURN == 0:
                await trio.lowlevel.checkpoint()
            if child.checked_at <= older_than and child.parent is node and _is_idle(child):
                node.listed_at = NEVER
                node.order = []
                del node.children[child.name]
                child.parent = None
                tree.drop_if_unused(child)
                freed += 1
        if len(tree.nodes) <= nodes_max // 2:
            break
    return freed


def _is_idle(node: Node) -> bool:
    """Whether the kernel, a handle, a change of ours or an entry below needs the inode."""
    if node.lookups > 0 or is_ours(node):
        return False
    if isinstance(node, FileNode):
        return node.handles == 0
    return isinstance(node, DirectoryNode) and not node.children and not node.gone
