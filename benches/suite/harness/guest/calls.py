"""Calls, objects, dictionaries, strings and generators: `calls.py ROUNDS`."""
import sys


class Node:
    """A node of a binary tree."""

    def __init__(self, key):
        self.key, self.left, self.right = key, None, None

    def insert(self, key):
        side = "left" if key < self.key else "right"
        child = getattr(self, side)
        if child is None:
            setattr(self, side, Node(key))
        else:
            child.insert(key)

    def walk(self):
        if self.left:
            yield from self.left.walk()
        yield self.key
        if self.right:
            yield from self.right.walk()


def queens(size, row=0, columns=0, up=0, down=0):
    """Ways to place queens that do not see each other."""
    if row == size:
        return 1
    found = 0
    for column in range(size):
        a, b, c = 1 << column, 1 << (row + column), 1 << (row - column + size)
        if not (columns & a or up & b or down & c):
            found += queens(size, row + 1, columns | a, up | b, down | c)
    return found


def words(rounds):
    """Counts words made of digits."""
    counts, seed = {}, rounds
    for _ in range(4000):
        seed = seed * 1103515245 + 12345 & 0x7FFFFFFF
        word = "".join(chr(97 + int(digit)) for digit in str(seed % 5000))
        counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]


def tree(rounds):
    """Sorts numbers in a tree."""
    root, seed = Node(500000), rounds + 1
    for _ in range(1500):
        seed = seed * 16807 % 2147483647
        root.insert(seed % 1000000)
    return sum(index * key for index, key in enumerate(root.walk()))


for number in range(int(sys.argv[1])):
    print(queens(6), words(number), tree(number))
