"""The arithmetic of 1×1 reductions: the paper's operations, and a block by hand."""

from hilum.models.inception_cost import inception_costs

# Szegedy et al. 2015, table 1, column "ops", in millions; its entry for 5a (54) is left out: the channels of that row
# give 51.
PUBLISHED = {"3a": 128, "3b": 304, "4a": 73, "4b": 88, "4c": 100, "4d": 119, "4e": 170, "5b": 71}


def test_multiply_accumulates_of_the_blocks_are_the_papers_operations() -> None:
    found = {cost.block: cost.macs for cost in inception_costs("googlenet_5x5")}
    assert list(found) == [f"inception{block}" for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    for block, millions in PUBLISHED.items():
        assert abs(found[f"inception{block}"] / 1e6 - millions) < 1, block


def test_block_3a_by_hand() -> None:
    """192 channels of 28 × 28 to 64 + 128 (3×3) + 32 (5×5) + 32; 96 and 16 channels before the large kernels."""
    cost = inception_costs("googlenet_5x5")[0]
    assert (cost.channels_in, cost.side, cost.channels_out, cost.channels_out_naive) == (192, 28, 256, 416)
    narrow = 192 * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32
    assert cost.macs == 28 * 28 * narrow
    assert cost.macs_naive == 28 * 28 * 192 * (64 + 9 * 128 + 25 * 32)


def test_torchvisions_kernels_are_counted_as_they_are() -> None:
    """3×3 in the third branch: 16 weights less for each pair of channels."""
    three, five = inception_costs("googlenet")[0], inception_costs("googlenet_5x5")[0]
    assert five.macs - three.macs == 28 * 28 * 16 * 16 * 32


def test_a_smaller_network_is_counted_at_its_own_size() -> None:
    cost = inception_costs("googlenet_small", early_pools=2, width=0.25)[0]
    assert (cost.side, cost.channels_in, cost.channels_out) == (8, 48, 64)
