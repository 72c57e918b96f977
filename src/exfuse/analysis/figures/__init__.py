"""The figures of a study, each as SVG and PNG."""
