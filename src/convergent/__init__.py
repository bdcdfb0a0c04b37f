"""Do different neural networks learn the same representations?

    import convergent as cv

    comparison = cv.compare({"a": net_a, "b": net_b}, loader, layers=["layer1", "layer4"])
    comparison.frame()                                      # a row per layer, ordered pair of nets and method
    comparison["layer4"].pair("a", "b")                     # the record behind it, which every method takes
    cv.Matching()(cv.Pair.of(x_na, x_nb)).frame()           # a row per unit
    cv.load("outputs").frame()                              # finished results of the commands

The path of the data: nets x images -> `Moments` -> `Pair` -> a method -> `Alignment` -> scores, figures, dashboards. All but
the first step are functions of second moments. Names are imported when they are first used, so that importing this package
takes no time.

Source: Li, Yosinski, Clune, Lipson, Hopcroft, "Convergent Learning: Do different neural networks learn the same
representations?", ICLR 2016.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convergent.analysis.intervals import jackknife as jackknife
    from convergent.analysis.nulls import rotated as rotated
    from convergent.comparison import Comparison as Comparison
    from convergent.comparison import compare as compare
    from convergent.core.alignment import Alignment as Alignment
    from convergent.core.alignment import align as align
    from convergent.core.layer_moments import LayerMoments as LayerMoments
    from convergent.core.moments import Moments as Moments
    from convergent.core.pairs import Pair as Pair
    from convergent.core.rotation import rotated_before as rotated_before
    from convergent.core.scores import held_out as held_out
    from convergent.errors import InputError as InputError
    from convergent.function.merging.merge import Merging as Merging
    from convergent.function.merging.merge import merge as merge
    from convergent.function.stitch import Stitched as Stitched
    from convergent.loading import Results as Results
    from convergent.loading import load as load
    from convergent.methods.hierarchical_spectral import (
        HierarchicalSpectralClustering as HierarchicalSpectralClustering,
    )
    from convergent.methods.least_squares import LeastSquares as LeastSquares
    from convergent.methods.matching import Matching as Matching
    from convergent.methods.mutual_information import MutualInformation as MutualInformation
    from convergent.methods.semimatching import SemiMatching as SemiMatching
    from convergent.methods.sparse import SparsePrediction as SparsePrediction
    from convergent.methods.sparse_path import SparsePath as SparsePath
    from convergent.methods.spectral import SpectralClustering as SpectralClustering
    from convergent.nets.encoders import SparseEncoder as SparseEncoder
    from convergent.similarity.every import similarities as similarities
    from convergent.streaming.encoders import with_encoders as with_encoders
    from convergent.streaming.measure import measure as measure
    from convergent.streaming.reading import Reading as Reading

__version__ = "0.1.0"

# Where each name is; the list above says the same to type checkers and editors.
_HOMES = {
    "analysis.intervals": ["jackknife"],
    "analysis.nulls": ["rotated"],
    "comparison": ["Comparison", "compare"],
    "core.alignment": ["Alignment", "align"],
    "core.layer_moments": ["LayerMoments"],
    "core.moments": ["Moments"],
    "core.pairs": ["Pair"],
    "core.rotation": ["rotated_before"],
    "core.scores": ["held_out"],
    "errors": ["InputError"],
    "function.merging.merge": ["Merging", "merge"],
    "function.stitch": ["Stitched"],
    "loading": ["Results", "load"],
    "methods.hierarchical_spectral": ["HierarchicalSpectralClustering"],
    "methods.least_squares": ["LeastSquares"],
    "methods.matching": ["Matching"],
    "methods.mutual_information": ["MutualInformation"],
    "methods.semimatching": ["SemiMatching"],
    "methods.sparse": ["SparsePrediction"],
    "methods.sparse_path": ["SparsePath"],
    "methods.spectral": ["SpectralClustering"],
    "nets.encoders": ["SparseEncoder"],
    "similarity.every": ["similarities"],
    "streaming.encoders": ["with_encoders"],
    "streaming.reading": ["Reading"],
    "streaming.measure": ["measure"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


if not TYPE_CHECKING:  # or a name that is none would be of type Any

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        return value


def __dir__() -> list[str]:
    return __all__
