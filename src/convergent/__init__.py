"""Do different neural networks learn the same representations?

The path of the data: nets x images -> `moments.Moments` -> `pairs.Pair` -> a method -> `alignment.Alignment` -> scores,
figures, dashboards. Everything up to the record is a pure function of second moments.

Source: Li, Yosinski, Clune, Lipson, Hopcroft, "Convergent Learning: Do different neural networks learn the same
representations?", ICLR 2016.
"""
