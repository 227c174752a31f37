// Asks a PodResources socket with the kubelet's own Go client, over connections that are dialled in each of the ways in
// which existing clients dial. Prints what it was told, one line per fact, with the way in front.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/kubelet/pkg/apis/podresources/v1"
	"k8s.io/kubelet/pkg/apis/podresources/v1alpha1"
)

func dialUnix(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", address)
}

func main() {
	socket := os.Args[1]
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	dialer := grpc.WithContextDialer(dialUnix)
	large := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16 << 20))
	connect := []struct {
		way  string
		dial func() (*grpc.ClientConn, error)
	}{
		// The kubelet's helper: topology-updater, resource-topology-exporter, multus.
		{"path and dialer", func() (*grpc.ClientConn, error) { return grpc.Dial(socket, plain, dialer, large) }},
		{"passthrough", func() (*grpc.ClientConn, error) { return grpc.Dial("passthrough:///"+socket, plain, dialer) }},
		// DCGM exporter.
		{"new client", func() (*grpc.ClientConn, error) { return grpc.NewClient("passthrough:///"+socket, plain, dialer) }},
		// nri-plugins.
		{"unix target", func() (*grpc.ClientConn, error) { return grpc.NewClient("unix://"+socket, plain, large) }},
		{"own authority", func() (*grpc.ClientConn, error) {
			return grpc.Dial(socket, plain, dialer, grpc.WithAuthority("localhost"))
		}},
	}
	for _, one := range connect {
		connection, err := one.dial()
		if err == nil {
			err = ask(one.way, connection)
			connection.Close()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", one.way, err)
			os.Exit(1)
		}
	}
}

func ask(way string, connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	client := v1.NewPodResourcesListerClient(connection)
	list, err := client.List(ctx, &v1.ListPodResourcesRequest{})
	if err != nil {
		return fmt.Errorf("List: %w", err)
	}
	for _, pod := range list.PodResources {
		tell(way, "List", pod)
	}
	allocatable, err := client.GetAllocatableResources(ctx, &v1.AllocatableResourcesRequest{})
	if err != nil {
		return fmt.Errorf("GetAllocatableResources: %w", err)
	}
	fmt.Printf("%s: Allocatable %v %s\n", way, allocatable.CpuIds, blocks(allocatable.Memory))
	got, err := client.Get(ctx, &v1.GetPodResourcesRequest{PodName: "db", PodNamespace: "data"})
	if err != nil {
		return fmt.Errorf("Get: %w", err)
	}
	tell(way, "Get", got.PodResources)
	_, err = client.Get(ctx, &v1.GetPodResourcesRequest{PodName: "absent", PodNamespace: "data"})
	fmt.Printf("%s: Get absent: %v\n", way, err)
	old, err := v1alpha1.NewPodResourcesListerClient(connection).List(ctx, &v1alpha1.ListPodResourcesRequest{})
	if err != nil {
		return fmt.Errorf("List of v1alpha1: %w", err)
	}
	for _, pod := range old.PodResources {
		fmt.Printf("%s: v1alpha1 %s/%s %d containers\n", way, pod.Namespace, pod.Name, len(pod.Containers))
	}
	return nil
}

func tell(way, call string, pod *v1.PodResources) {
	for _, container := range pod.Containers {
		fmt.Printf("%s: %s %s/%s/%s %v %s\n",
			way, call, pod.Namespace, pod.Name, container.Name, container.CpuIds, blocks(container.Memory))
	}
}

func blocks(memory []*v1.ContainerMemory) string {
	text := ""
	for _, block := range memory {
		text += fmt.Sprintf("%s=%d@", block.MemoryType, block.Size_)
		for _, node := range block.Topology.Nodes {
			text += fmt.Sprint(node.ID)
		}
		text += " "
	}
	return text
}
