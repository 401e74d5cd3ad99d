"""The page for those who have not met attention says what the library computes."""

import re

import torch

from book.writers import attention
from minicoder.model.attention import attend


def test_the_last_line_is_what_the_library_gives():
    q, k, v = (rows[None, None]
               for rows in (attention.QUERY, attention.KEY, attention.VALUE))
    ours = attention.weights_of(attention.QUERY, attention.KEY) @ attention.VALUE
    torch.testing.assert_close(attend(q, k, v, 2**-0.5)[0, 0], ours)
    last = re.search(r"= \((\S+), (\S+)\) \$\$", attention.pages()["attention"])
    told = torch.tensor([float(x) for x in last.groups()], dtype=torch.float64)
    torch.testing.assert_close(told, ours[-1], rtol=0, atol=0.005)


def test_a_doubled_key_is_found_more():
    page = attention.pages()["attention"]
    before, after = map(float, re.search(r"from\s(\S+) to (\S+)\.\)", page).groups())
    assert before < after
