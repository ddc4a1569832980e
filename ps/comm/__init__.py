"""What ranks agree on and exchange outside of steps: errors, plain values, and which ranks share a node.

What is exchanged in a step belongs to ``ps/sync``.
"""
