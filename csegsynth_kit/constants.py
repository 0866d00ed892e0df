"""Tissues and their order, label schemes, colors and units."""

#: Axis T of every (N, T, X, Y, Z) tensor.
TISSUES = ("WM", "GM", "CSF", "background")
#: The tissues that are stored, measured and predicted; background is what remains.
MEASURED = TISSUES[:3]
#: Column of ``volumes.tsv`` of every measured tissue, in the order of :data:`MEASURED`.
VOLUME_COLUMNS = ("wm_ml", "gm_ml", "csf_ml")

#: LABELS[scheme][t]: the integer of a label file that means TISSUES[t].
LABELS = {"fast": (3, 2, 1, 0), "bids": (2, 1, 3, 0)}

#: FreeSurfer's aseg codes of every measured tissue, as FreeSurfer and SynthSeg write them.
#: 136, 163, 137, 164 are the choroid plexus labels of the SynthSeg training maps.
ASEG_LABELS = {
    "WM": (2, 41, 7, 46, 16, 85, 25, 57, 30, 62, 77, 78, 79, 192, *range(250, 256)),
    "GM": (3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58, 28, 60),
    "CSF": (4, 43, 5, 44, 14, 15, 24, 72, 31, 63, 136, 163, 137, 164),
}
#: From this code on, labels lie outside the brain and its CSF (skin, skull, eyes).
ASEG_EXTRACEREBRAL_FROM = 500
#: The one aseg label that covers CSF outside the ventricles.
ASEG_OUTER_CSF = 24

#: What a map counts as CSF. Volumes of different definitions must not be mixed.
CSF_DEFINITIONS = {
    "brain-mask": "CSF inside the brain mask (FSL FAST, fMRIPrep)",
    "ventricular": "ventricles and little else (FreeSurfer aseg, SynthSeg without label 24)",
    "intracranial": "all CSF inside the skull (label maps with CSF around the brain)",
}

#: Distinguishable with every kind of color vision, and by lightness alone in print.
COLORS = {"WM": "#DDA01F", "GM": "#A63A2B", "CSF": "#4C9ED9", "background": "#FFFFFF"}

#: Colors from less to more of a tissue, purple to green: told apart with every kind of color
#: vision, and from the tissues' own colors.
DIVERGING = "PRGn"

#: MNI position (mm) of the center of mass of the template's white and gray matter.
TEMPLATE_CENTER_MM = (0.0, -21.7, 9.7)

#: The weights of the package that answer when nothing else is asked for.
PACKAGED = "csegsynth-small"
