"""The statistics pass: while nets read the images once, what is to be known of their layers is accumulated, exactly."""
