"""The only room that constructs things: in order, on one exit stack, and unbuilt in reverse."""
