# Regular expressions, hashes, sorting and string building: `texts.pl ROUNDS FILE`.
use strict;
use warnings;

my ($rounds, $file) = @ARGV;
open my $input, '<', $file or die "$file: $!";
my @lines;
while (@lines < 4000 and defined(my $line = <$input>)) { push @lines, $line }
for my $round (1 .. $rounds) {
    my (%counts, %pairs);
    for my $line (@lines) {
        my $last = '';
        while ($line =~ /([a-z]+)/g) {
            $counts{$1}++;
            $pairs{"$last $1"}++ if length $1 > 4;
            $last = $1;
        }
        (my $other = $line) =~ s/([aeiou])([a-z])/$2$1/g;
        $counts{ substr $other, $round % 7, 5 }++;
    }
    my @top = sort { $counts{$b} <=> $counts{$a} or $a cmp $b } keys %counts;
    my @most = sort { $pairs{$b} <=> $pairs{$a} or $a cmp $b } keys %pairs;
    print join(' ', @top[0 .. 4], $most[0], sprintf '%d', scalar @top), "\n";
}
