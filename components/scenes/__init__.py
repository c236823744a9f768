"""Sample scenes: seeded, procedural street scenes in COCO format, as stills and as clips.

The embedded default brings its own data because neither COCO nor pretrained weights can be
assumed to be within reach. ``sprites`` draws one object, ``world`` places and moves many of them,
``conditions`` turns day into night, fog, rain or blur, and ``writer`` makes a data set of it.
"""
