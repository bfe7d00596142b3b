"""Has this been tried, or is it running now?"""
