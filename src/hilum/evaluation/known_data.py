"""Public sets of chest films by every name they go by, and which of them hold films of which: a literal table.

Sets are built from sets ("Frankenstein data sets", Roberts et al. 2021, doi:10.1038/s42256-021-00307-0), so films that
look external can be ones that the weights have seen. The table knows the common ones; a name that it doesn't know is
compared as it is.
"""

from dataclasses import dataclass

NOT_RECORDED = "not recorded"
"""What weights say of their data when their file says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownData:
    """One set of images."""

    aliases: tuple[str, ...]
    """Names it goes by, in lower case and without spaces, hyphens and underscores."""
    holds: tuple[str, ...] = ()
    """Sets that it takes films from."""


KNOWN: dict[str, KnownData] = {
    "imagenet-1k": KnownData(aliases=("imagenet", "imagenet1k", "ilsvrc2012")),
    "procedural images of hilum.datasets.procedural": KnownData(aliases=()),
    # Wang et al. 2017, doi:10.1109/CVPR.2017.369
    "nih-chestx-ray14": KnownData(aliases=("nih", "nihcxr", "chestxray14", "nihchestxray14", "chestxray8")),
    # Shih et al. 2019, doi:10.1148/ryai.2019180041: films of ChestX-ray14 with new labels
    "rsna-pneumonia": KnownData(aliases=("rsna", "rsnapneumonia"), holds=("nih-chestx-ray14",)),
    # Cohen et al. 2020, arXiv:2006.11988
    "covid-chestxray-dataset": KnownData(aliases=("cohen", "covidchestxray", "ieee8023", "covidchestxraydataset")),
    # Kermany et al. 2018, doi:10.1016/j.cell.2018.02.010: children
    "kermany-pneumonia": KnownData(aliases=("kermany", "chestxraypneumonia", "guangzhou")),
    # Wang et al. 2020, doi:10.1038/s41598-020-76550-z
    "covidx": KnownData(aliases=("covidnet", "covidx"), holds=("covid-chestxray-dataset", "rsna-pneumonia")),
    # Chowdhury et al. 2020, doi:10.1109/ACCESS.2020.3010287
    "covid-19-radiography-database": KnownData(
        aliases=("covid19radiographydatabase", "covid19radiography", "qatar"),
        holds=("covid-chestxray-dataset", "kermany-pneumonia", "rsna-pneumonia"),
    ),
    # Irvin et al. 2019, arXiv:1901.07031
    "chexpert": KnownData(aliases=("chexpert", "stanford")),
    # Johnson et al. 2019, doi:10.1038/s41597-019-0322-0
    "mimic-cxr": KnownData(aliases=("mimic", "mimiccxr", "mimiccxrjpg")),
    # Bustos et al. 2020, doi:10.1016/j.media.2020.101797
    "padchest": KnownData(aliases=("padchest",)),
    # Vayá et al. 2020, arXiv:2006.01174: the same hospitals' region and group as PadChest, other films
    "bimcv-covid19": KnownData(aliases=("bimcv", "bimcvcovid19")),
    # Cohen et al. 2022, arXiv:2111.00595: the weights of densenet121-res224-all
    "torchxrayvision-all": KnownData(
        aliases=("torchxrayvision", "xrv", "xrvall"),
        holds=("nih-chestx-ray14", "rsna-pneumonia", "chexpert", "mimic-cxr", "padchest"),
    ),
}
"""Name → what is known of it."""


def canonical(name: str) -> str:
    """The table's name of a set; the given name, as it is, when the table doesn't know it."""
    bare = _bare(name)
    for known, row in KNOWN.items():
        if bare == _bare(known) or bare in row.aliases:
            return known
    return name.strip().casefold()


def held_by(name: str) -> frozenset[str]:
    """Every set whose films a set holds, itself among them."""
    found, waiting = set(), [canonical(name)]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += KNOWN[one].holds if one in KNOWN else ()
    return frozenset(found)


def films_in_common(one: str, other: str) -> frozenset[str]:
    """Sets of which two sets both hold films; empty when none is known."""
    return held_by(one) & held_by(other)


def _bare(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
